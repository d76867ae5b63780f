using System.CommandLine;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Commands;

internal static class MigrationCommands
{
    public static Command Make(CommandBuilder builder) =>
        CommandBuilder.Group("migration", "Moves: past and present", [List(builder), Show(builder), Log(builder), Watch(builder), Abort(builder), Repair(builder)]);

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

    private static Command Repair(CommandBuilder builder)
    {
        var target = new Argument<string>("vm|id") { Description = "Name of the VM, or id of a migration of it" };
        var options = new MoveOptions();
        return builder.Command("repair", "Ask every host where a VM is and make the journal say that; refused (exit 4) unless it is at exactly one", [target, options.Reason], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var vm = await VmOfAsync(client, run.Parsed.GetValue(target)!, cancellation);
            var report = await client.RepairAsync(vm, run.Parsed.GetValue(options.Reason), cancellation);
            if (run.Format is OutputFormat.Table or OutputFormat.Wide)
            {
                run.Printer.List(report.Hosts, Views.RepairHosts, static h => h.Host.Value, static _ => throw new InvalidOperationException("The table alone is printed by rows."));
                run.Context.Say($"VM {report.Vm}: {report.Outcome}" + (report.Owner is { } owner ? $", at {owner} (run epoch {report.Epoch})" : "") + (report.Ended is { } ended ? $"; migration {Words.ShortId(ended)} was given up" : ""));
                if (report.Error is { } error)
                    run.Context.Say($"error: {error.Message}\n  [{error.Code}]");
            }
            else
            {
                run.Printer.One(report, [], static r => r.Vm.Value, static api => api.RepairReport);
            }

            return report.Error is null ? ExitCode.Done : ExitCode.Refused;
        });
    }

    /// <summary>A name of a VM that is known wins over the beginning of an id; what is neither is taken for the name of a VM that the journal may have forgotten.</summary>
    private static async Task<VmName> VmOfAsync(ControlClient client, string text, CancellationToken cancellation)
    {
        if (VmName.TryParse(text, out var vm) && (await client.VmsAsync(cancellation)).Any(v => v.Name == vm))
            return vm;
        if (!text.All(char.IsAsciiHexDigit))
            return VmName.Parse(text);
        try
        {
            return (await client.MigrationAsync(text, cancellation)).Vm;
        }
        catch (FabricException missing) when (missing.Error.Code == ErrorCodes.NotFound)
        {
            return VmName.Parse(text);
        }
    }

    private static Argument<string> Id() => new("id") { Description = "Id, or a unique beginning of one" };
}
