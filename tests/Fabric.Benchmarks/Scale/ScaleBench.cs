using System.Globalization;
using System.Text;
using Fabric.Core;
using Fabric.Integration.Postgres;

namespace Fabric.Benchmarks.Scale;

/// <summary>
/// <c>fabric-bench scale</c>: a data centre in one process: one real control node, as many real agents as asked, and evacuations until so many migrations run at once.
/// Exit 1 when the bar is missed or a VM is not where it must be.
/// </summary>
public static class ScaleBench
{
    public const string Usage = """
        fabric-bench scale [--hosts 1000] [--vms 20000] [--concurrent 2000] [--push-seconds 30] [--ramp-seconds 20]
                           [--store sqlite|postgres] [--connection TEXT] [--out DIR]
          Creates the VMs, then empties as many hosts as give so many migrations at once. --push-seconds: how long the first round of each push
          lasts; --ramp-seconds: over how long the evacuations are asked for.
          DOTNET_gcServer=1 DOTNET_TieredCompilation=0 in the environment make the runtime as fabricd has it.
          --store postgres takes the database of --connection, or a server of its own. Writes scale.md and scale.json to DIR (artifacts/bench).
        """;

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(talk);
        var options = ScaleOptions.Parse(values);
        TemporaryPostgres? server = null;
        try
        {
            if (options is { Store: "postgres", Connection: null })
            {
                if (TemporaryPostgres.Unavailable() is { } lack)
                    throw new FabricException(ErrorCodes.Unsupported, $"There is no PostgreSQL for --store postgres: {lack}", "Give --connection, or use --store sqlite.");
                server = await TemporaryPostgres.StartAsync();
                options = options with { Connection = await server.TakeDatabaseAsync() };
            }

            string command = Runtime() + "dotnet run -c Release --project tests/Fabric.Benchmarks -- scale" + string.Concat(values.Where(static v => v.Key is not ("out" or "connection")).Select(static v => $" --{v.Key} {v.Value}"));
            var result = await new ScaleRun(options, command, TimeProvider.System, new Random(), talk.WriteLine).RunAsync(cancellation);
            string name = options.Store == "sqlite" ? "scale" : "scale-postgres";
            Directory.CreateDirectory(options.Out);
            await File.WriteAllTextAsync(Path.Combine(options.Out, name + ".json"), result.ToJson(), CancellationToken.None);
            await File.WriteAllTextAsync(Path.Combine(options.Out, name + ".md"), Markdown(result), CancellationToken.None);
            await talk.WriteLineAsync("\n" + Markdown(result));
            return result.Ok ? 0 : 1;
        }
        finally
        {
            if (server is not null)
                await server.DisposeAsync();
        }
    }

    /// <summary>How the runtime was set, as it is written before the command.</summary>
    private static string Runtime() => string.Concat(
        new[] { "DOTNET_gcServer", "DOTNET_TieredCompilation" }.Select(static name => Environment.GetEnvironmentVariable(name) is { } value ? $"{name}={value} " : ""));

    private static string Markdown(ScaleResult r)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# A data centre in one process, {r.Store}\n\n    {r.Command}\n\nMachine: {r.Machine}.\n\n{Method}\n\n");
        text.Append("| bar | wanted | found | |\n|---|---|---|---|\n");
        foreach (var bar in r.Bars)
            text.Append(CultureInfo.InvariantCulture, $"| {bar.What} | {bar.Wanted} | {bar.Found} | {(bar.Ok ? "ok" : "**MISSED**")} |\n");
        text.Append("\n| measured | |\n|---|---|\n");
        Row("hosts, VMs, evacuations", $"{r.Hosts}, {r.Vms}, {r.Evacuations}");
        Row("migrations, completed", $"{r.Migrations}, {r.Completed}");
        Row("at once, by durable events; page streams open at once", $"{r.PeakConcurrent}; {r.PeakStreams}");
        Row("creation of the VMs", string.Create(CultureInfo.InvariantCulture, $"{r.CreateSeconds:0.0} s"));
        Row("all evacuations accepted", string.Create(CultureInfo.InvariantCulture, $"{r.PlanSeconds:0.0} s (asked for over {r.RampSeconds} s)"));
        Row("from the first request to the end of the last evacuation", string.Create(CultureInfo.InvariantCulture, $"{r.BatchSeconds:0.0} s, {r.MigrationsPerSecond:0.0} migrations/s"));
        Row("one migration, claim to settlement (first round: " + r.PushSeconds.ToString(CultureInfo.InvariantCulture) + " s)", Show(r.MigrationTimes));
        Row("processor time while they moved", string.Create(CultureInfo.InvariantCulture, $"{r.ProcessorSeconds:0.0} s"));
        Row("collector's pauses while they moved", string.Create(CultureInfo.InvariantCulture, $"{r.GcPauseSeconds:0.00} s in all, longest {r.LongestGcPauseMs:0} ms ({r.GcPauses})"));
        Row("RSS after creation; peak", string.Create(CultureInfo.InvariantCulture, $"{r.RssAfterCreation / 1048576.0:0} MiB; {r.PeakRss / 1048576.0:0} MiB"));
        Row("durable appends to the journal while they moved", string.Create(CultureInfo.InvariantCulture, $"{r.Appends.Count}, {r.AppendsPerSecond:0}/s, {Show(r.Appends)}"));
        Row("synced appends to agents' ledgers, all", r.LedgerAppends.ToString(CultureInfo.InvariantCulture));
        Row("commands; answers with facts while they moved", string.Create(CultureInfo.InvariantCulture, $"{r.Commands}; {r.Facts} ({r.FactMebibytes} MiB of JSON)"));
        Row("pages copied", r.PagesMoved.ToString(CultureInfo.InvariantCulture));
        Row("warnings and errors in the logs", r.Warnings.Count == 0 ? "none" : string.Join("; ", r.Warnings.Select(static w => string.Create(CultureInfo.InvariantCulture, $"{w.Value} × {w.Key}"))));
        text.Append("\n| decision | count | median ms | p99 ms | most ms |\n|---|---|---|---|---|\n");
        foreach (var (kind, times) in r.DecisionsByKind.Append(new("all", r.Decisions)).Append(new("an agent's answer with facts → the next poll of that host", r.PollGaps)))
            text.Append(CultureInfo.InvariantCulture, $"| {kind} | {times.Count} | {times.MedianMs:0.0} | {times.P99Ms:0.0} | {times.MostMs:0.0} |\n");
        return text.ToString();

        void Row(string what, string found) => text.Append(CultureInfo.InvariantCulture, $"| {what} | {found} |\n");
    }

    private static string Show(Times times) => string.Create(CultureInfo.InvariantCulture, $"median {times.MedianMs:0.0} ms, p99 {times.P99Ms:0.0} ms, most {times.MostMs:0.0} ms");

    private const string Method = """
        One process: one control node as `fabricd` composes it (membership, `ClusterPlane`, `ControlPlane`, a durable journal on disk) and as many host agents as asked (`HostAgent` with ledger
        files that are synced at each append). Not there: HTTP between them (every message is written as JSON and read again), hypervisors (synthetic guests of 1 MiB which run a few
        operations before and after the move, and no thread each), and sockets: pages are copied from memory to memory within the process, and the first round of each push is held for a given
        time. Agents work on threads of their own, the control node on the pool; all share the processors. Hosts register every second.
        Evacuations are asked for evenly over a given time, so that decisions are
        taken at the pace of a data centre and not all within the same second. Fifty VMs are moved before the measurement begins: a control node that runs has compiled its code.

        A decision is measured from outside the control node: from the moment when the last message that it needs leaves the agent (facts as bytes, before they are read; for the first one the
        durable claim) to the moment when the command that follows is handed to the gateway, which comes after its event is durable; the last one ends when the VM's new place is durable.
        Queues, reading, the journal's sync and the collector are in it. How long a fact may wait at its agent until it is polled is the last row.
        """;
}
