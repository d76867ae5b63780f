using System.CommandLine;
using Fabric.Cli.Local;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Commands;

/// <summary><c>up</c> and <c>down</c>: a cluster of processes on this machine.</summary>
internal static class ClusterCommands
{
    public static IEnumerable<Command> Make(CommandBuilder builder) => [Up(builder), Down(builder)];

    private static Command Up(CommandBuilder builder)
    {
        var config = new Option<string?>("--config") { Description = "YAML file of a whole cluster (cluster-config/ has some), instead of --hosts, --controls and --database" };
        var hosts = new Option<int>("--hosts") { Description = $"Number of hosts, 1 to {ClusterTopology.MostHosts}", DefaultValueFactory = _ => 3 };
        var controls = new Option<int>("--controls") { Description = $"Number of control nodes, 1 to {ClusterTopology.MostControls}", DefaultValueFactory = _ => 1 };
        var database = new Option<string?>("--database") { Description = "PostgreSQL database of the control nodes (a connection string) instead of an SQLite file" };
        var detach = new Option<bool>("--detach") { Description = "Return once it runs; 'fabric down' ends it" };
        return builder.Command("up", "Start a local cluster", [config, hosts, controls, database, detach], async (run, cancellation) =>
        {
            bool detached = run.Parsed.GetValue(detach);
            var plan = run.Parsed.GetValue(config) is not { } file
                ? ClusterTopology.Of(run.Parsed.GetValue(controls), run.Parsed.GetValue(hosts), run.Parsed.GetValue(database))
                : new Option[] { hosts, controls, database }.FirstOrDefault(o => run.Parsed.GetResult(o) is { Implicit: false }) is { } other
                    ? throw new FabricException(ErrorCodes.InvalidArgument, $"--config and {other.Name} exclude each other.", "The file says it all.")
                    : TopologyFile.Read(file);
            var options = Options(run) with { Topology = plan, Ephemeral = !detached, Daemon = DaemonProgram.Find(run.Context.Environment) };
            await ClearStaleAsync(options, run.Context);
            var cluster = LocalCluster.Create(options, run.Context.Time, run.Context.Random);
            try
            {
                run.Context.Say($"Starting {Words(plan)} in {options.Directory} ...");
                await cluster.StartAsync(cancellation);
            }
            catch
            {
                await TakeDownAsync(cluster, run.Context);
                throw;
            }

            using var client = new ControlClient(cluster.ApiUrl);
            run.Printer.List(await client.HostsAsync(cancellation), Views.Hosts(run.Context.Time), h => h.Name.Value, api => api.HostReport);
            if (detached)
            {
                run.Context.Say($"The cluster runs at {cluster.ApiUrl}. 'fabric down' ends it.");
                return ExitCode.Done;
            }

            run.Context.Say($"The cluster runs at {cluster.ApiUrl}. Ctrl-C ends it.");
            await WaitForEndAsync(cluster, run.Context.Time, cancellation);
            return await TakeDownAsync(cluster, run.Context);
        });
    }

    private static Command Down(CommandBuilder builder) => builder.Command("down", "End the local cluster and everything in it", [], async (run, _) =>
    {
        if (LocalCluster.Open(Options(run), run.Context.Time) is { } cluster)
            return await TakeDownAsync(cluster, run.Context);
        run.Context.Say($"No local cluster is running in '{run.Directory}'.");
        return ExitCode.Done;
    });

    /// <summary>Once begun it is finished, Ctrl-C or not: half a cluster helps nobody, and every step has a deadline.</summary>
    public static async Task<int> TakeDownAsync(LocalCluster cluster, CliContext context)
    {
        context.Say("Taking the cluster down ...");
        var left = await cluster.DownAsync(context.Say, CancellationToken.None);
        foreach (string thing in left)
            context.Say($"error: still there: {thing}");
        if (left.Count == 0)
            context.Say("The cluster is down; nothing is left.");
        return left.Count == 0 ? ExitCode.Done : ExitCode.Failed;
    }

    private static string Words(ClusterTopology plan) =>
        (plan.Name is { } name ? $"cluster '{name}': " : "")
        + (plan.Store is ManagedPostgresStore ? "a PostgreSQL server, " : "")
        + (plan.Controls.Count == 1 ? "a control node" : $"{plan.Controls.Count} control nodes")
        + (plan.Hosts.Count == 1 ? " and a host" : $" and {plan.Hosts.Count} hosts");

    private static LocalClusterOptions Options(Invocation run) => new() { Directory = run.Directory, Daemon = "" };

    /// <summary>A record whose daemons are all dead (the machine was switched off) is no cluster: what it left is cleared away first.</summary>
    private static async Task ClearStaleAsync(LocalClusterOptions options, CliContext context)
    {
        if (LocalCluster.Open(options, context.Time) is not { } old || old.Record.IsAlive())
            return;
        context.Say("A cluster was left here and none of its processes lives; clearing it away.");
        var left = await old.DownAsync(context.Say, CancellationToken.None);
        if (left.Count > 0)
            throw new FabricException(ErrorCodes.Conflict, $"The old cluster left: {string.Join(", ", left)}.", "End it by hand, or use another --dir.");
    }

    /// <summary>Until Ctrl-C, or until another process took the cluster down.</summary>
    private static async Task WaitForEndAsync(LocalCluster cluster, TimeProvider time, CancellationToken cancellation)
    {
        try
        {
            while (ClusterFile.Read(cluster.Directory)?.Id == cluster.Record.Id)
                await Task.Delay(TimeSpan.FromSeconds(1), time, cancellation);
        }
        catch (OperationCanceledException)
        {
            // Ctrl-C is how a foreground cluster is meant to end.
        }
    }
}
