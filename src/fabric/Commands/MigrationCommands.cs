using System.CommandLine;
using Fabric.Cli.Output;

namespace Fabric.Cli.Commands;

internal static class MigrationCommands
{
    public static Command Make(CommandBuilder builder) =>
        CommandBuilder.Group("migration", "Moves: past and present", [List(builder), Show(builder), Log(builder), Watch(builder), Abort(builder)]);

    private static Command List(CommandBuilder builder) => builder.Command("list", "All moves", [], async (run, cancellation) =>
    {
        using var client = run.Connect();
        run.Printer.List(await client.MigrationsAsync(cancellation), Views.Migrations, m => m.Id.ToString(), api => api.MigrationReport);
        return ExitCode.Done;
    });

    private static Command Show(CommandBuilder builder)
    {
        var id = Id();
        return builder.Command("show", "One move", [id], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var migration = await client.MigrationAsync(run.Parsed.GetValue(id)!, cancellation);
            run.Printer.One(migration, Views.Migration, m => m.Id.ToString(), api => api.MigrationReport);
            return ExitCode.Done;
        });
    }

    private static Command Log(CommandBuilder builder)
    {
        var id = Id();
        return builder.Command("log", "What was decided about a move, by whom, at which epoch", [id], async (run, cancellation) =>
        {
            using var client = run.Connect();
            run.Printer.List(await client.MigrationLogAsync(run.Parsed.GetValue(id)!, cancellation), Views.Events, static e => $"{e.Stream}/{e.Sequence}", api => api.EventReport);
            return ExitCode.Done;
        });
    }

    private static Command Watch(CommandBuilder builder)
    {
        var id = Id();
        var options = new MoveOptions();
        return builder.Command("watch", "Show a move's progress until its end; the exit code is the move's", [id, options.Timeout], async (run, cancellation) =>
        {
            var limit = options.Limit(run.Parsed);
            using var client = run.Connect();
            var migration = await client.MigrationAsync(run.Parsed.GetValue(id)!, cancellation);
            return await new MigrationWatch(run, client).RunAsync(migration, limit, cancellation);
        });
    }

    private static Command Abort(CommandBuilder builder)
    {
        var id = Id();
        var options = new MoveOptions();
        return builder.Command("abort", "Give a move up; refused once the VM may run at its destination", [id, options.Reason], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var migration = await client.AbortAsync(run.Parsed.GetValue(id)!, run.Parsed.GetValue(options.Reason), cancellation);
            if (run.Format is OutputFormat.Table or OutputFormat.Wide)
                run.Context.Say($"migration {Words.ShortId(migration.Id)} of VM {migration.Vm}: {migration.State}");
            else
                run.Printer.One(migration, Views.Migration, m => m.Id.ToString(), api => api.MigrationReport);
            return ExitCode.Done;
        });
    }

    private static Argument<string> Id() => new("id") { Description = "Id, or a unique beginning of one" };
}
