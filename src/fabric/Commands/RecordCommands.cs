using System.CommandLine;
using Fabric.Cli.Output;

namespace Fabric.Cli.Commands;

/// <summary>Who is in charge of what, and what was decided.</summary>
internal static class RecordCommands
{
    /// <summary>Between two looks for new events.</summary>
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(500);

    public static IEnumerable<Command> Make(CommandBuilder builder) =>
    [
        CommandBuilder.Group("shard", "Shards of supervisors", [Shards(builder)]),
        CommandBuilder.Group("node", "Control nodes", [Nodes(builder)]),
        Events(builder),
    ];

    private static Command Shards(CommandBuilder builder) => builder.Command("list", "Where each shard is placed, and what the node that answers holds", [], async (run, cancellation) =>
    {
        using var client = run.Connect();
        run.Printer.List(await client.ShardsAsync(cancellation), Views.Shards, s => Words.Number(s.Shard), api => api.ShardReport);
        return ExitCode.Done;
    });

    private static Command Nodes(CommandBuilder builder) => builder.Command("list", "Control nodes, also those that are gone", [], async (run, cancellation) =>
    {
        using var client = run.Connect();
        run.Printer.List(await client.NodesAsync(cancellation), Views.Nodes(run.Context.Time), n => n.Name, api => api.NodeReport);
        return ExitCode.Done;
    });

    private static Command Events(CommandBuilder builder)
    {
        var follow = new Option<bool>("--follow", "-f") { Description = "Go on with what happens from now on, until Ctrl-C" };
        return builder.Command("events", "What was decided, by whom, at which epoch", [follow], async (run, cancellation) =>
        {
            using var client = run.Connect();
            bool following = run.Parsed.GetValue(follow);
            string cursor = following ? "now" : "";
            while (true)
            {
                var page = await client.EventsAsync(cursor, cancellation);
                cursor = page.Cursor;
                if (page.Items.Count > 0)
                    run.Printer.List(page.Items, Views.Events, static e => $"{e.Stream}/{e.Sequence}", api => api.EventReport);
                if (page.Items.Count == 0 && !following)
                    return ExitCode.Done;
                if (page.Items.Count == 0)
                    await Task.Delay(Period, run.Context.Time, cancellation);
            }
        });
    }
}
