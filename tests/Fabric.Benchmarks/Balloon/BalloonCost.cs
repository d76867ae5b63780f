using System.Globalization;
using System.Text;
using System.Text.Json;
using Fabric.Benchmarks.Compare;
using Fabric.Benchmarks.Moving;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Native;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Balloon;

/// <summary>
/// One workload under one interval. <paramref name="Slower"/>: per cent by which the guest did less than its twin without a loop, over windows of some seconds; below zero, more.
/// <paramref name="Orders"/>: sizes that it was asked for, over all runs.
/// </summary>
public sealed record BalloonCostRow(string Workload, int IntervalMs, Statistics Slower, int Orders);

public sealed record BalloonCostReport(string Machine, string Guest, IReadOnlyList<BalloonCostRow> Rows, bool AllClean);

/// <summary>
/// What a VM's own balloon loop costs its guest. Guests that differ in their interval alone, and one without a loop, run at the same time on one host: whatever else the machine does takes from all
/// of them alike, and the progress of each is compared with that of the one without, window by window. They are made in another order each time.
/// </summary>
public static class BalloonCost
{
    public const string Usage = """
        fabric-bench balloon-cost [--runs N] [--seconds N] [--memory SIZE] [--mb N] [--workload LIST] [--out DIR]
          Compares the progress of guests with a balloon loop of 5 s, 1 s and 0.5 s with that of one without, at the same time; writes balloon-cost.md and .json to DIR (artifacts/bench).
          --mb: of the workload. --workload: read-heavy, write-heavy, compile-like, with commas between.
        """;

    private static readonly TimeSpan BootDeadline = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(5);
    private static readonly string[] Workloads = ["read-heavy", "write-heavy", "compile-like"];
    private static readonly int[] Intervals = [0, 5000, 1000, 500]; // 0: no loop

    private static readonly HostName Host = HostName.Parse("alpha");

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> options, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(talk);
        int runs = BenchOptions.Number(options, "runs", 2, 1, 100);
        int windows = Math.Max(1, (int)(BenchOptions.Number(options, "seconds", 40, 5, 3600) / Window.TotalSeconds));
        string[] workloads = BenchOptions.Chosen(options, "workload", Workloads, static w => w);
        if (Preflight.WhyNot(Preflight.Run(new PreflightOptions())) is { } why)
            throw new FabricException(ErrorCodes.Unsupported, why);
        var seen = new List<(string Workload, int Interval, double Slower)>();
        var orders = new Dictionary<(string, int), int>();
        bool clean = true;
        string directory = Directory.CreateTempSubdirectory("fabric-cost-").FullName;
        var cluster = LocalCluster.Create(
            new LocalClusterOptions { Directory = directory, Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable), Hosts = 1, Ephemeral = true }, TimeProvider.System, new Random());
        try
        {
            await cluster.StartAsync(cancellation);
            for (int run = 0; run < runs; run++)
            {
                foreach (string workload in workloads)
                {
                    var guests = await RunOnceAsync(cluster, Spec(options, workload), run, windows, seen, cancellation);
                    clean &= guests.All(static g => g.Clean);
                    foreach (var guest in guests)
                        orders[(workload, guest.Interval)] = orders.GetValueOrDefault((workload, guest.Interval)) + guest.Orders;
                    await talk.WriteLineAsync($"{run + 1} {workload}: {string.Join(", ", guests.Select(static g => $"{g.Interval} ms {g.Orders} orders"))}{(clean ? "" : ", MEMORY ERRORS")}");
                }
            }
        }
        finally
        {
            await cluster.DownAsync(static _ => { }, CancellationToken.None);
            if (Directory.Exists(directory))
                Directory.Delete(directory, recursive: true);
        }

        var rows = from s in seen
                   group s.Slower by (s.Workload, s.Interval) into g
                   select new BalloonCostRow(g.Key.Workload, g.Key.Interval, Statistics.Of(g)!, orders[g.Key]);
        var like = Spec(options, "…");
        var report = new BalloonCostReport(BenchReport.Machine("tcg"), $"{ByteSize.Format(like.MemoryBytes)}, {like.Append}", [.. rows], clean);
        await BenchReport.WriteAsync(options, "balloon-cost", JsonSerializer.Serialize(report, BenchReport.Json), Markdown(report), talk);
        return clean ? 0 : 1;
    }

    private static VmSpec Spec(IReadOnlyDictionary<string, string> options, string workload) => new()
    {
        Name = VmName.Parse("guest"),
        MemoryBytes = ByteSize.Parse(options.GetValueOrDefault("memory", "256M"), "--memory"),
        Kernel = BenchOptions.Existing(options, "kernel", "FABRIC_GUEST_KERNEL"),
        Initrd = BenchOptions.Existing(options, "initrd", "FABRIC_GUEST_INITRD"),
        Append = string.Create(CultureInfo.InvariantCulture, $"fabric.workload={workload} fabric.mb={BenchOptions.Number(options, "mb", 64, 1, 1 << 20)}"),
        Accelerator = Accelerator.Tcg,
    };

    private static async Task<IReadOnlyList<(int Interval, int Orders, bool Clean)>> RunOnceAsync(
        LocalCluster cluster, VmSpec like, int run, int windows, List<(string Workload, int Interval, double Slower)> seen, CancellationToken cancellation)
    {
        using var client = new ControlClient(cluster.ApiUrl);
        var guests = Enumerable.Range(0, Intervals.Length).Select(i => Intervals[(i + run) % Intervals.Length])
            .Select(interval => (Interval: interval, Record: new GuestRecord(cluster, NameOf(interval)))).ToList();
        try
        {
            foreach (var (interval, _) in guests)
                await client.CreateVmAsync(new CreateVmRequest(like with { Name = NameOf(interval), Balloon = interval == 0 ? null : new BalloonSpec(interval) }, Host), cancellation);
            await WorkingAsync([.. guests.Select(static g => g.Record)], cancellation);
            string workload = like.Append!.Split(' ')[0].Split('=')[1];
            for (int window = 0; window < windows; window++)
            {
                var before = guests.Select(static g => g.Record.Log.Beats[^1]).ToList();
                await Task.Delay(Window, TimeProvider.System, cancellation);
                guests.ForEach(static g => g.Record.ReadFrom(Host));
                // By the guest's own clock, which goes on as ours does: beats come every quarter of a second.
                double[] rates = [.. guests.Zip(before, static (g, b) => (g.Record.Log.Beats[^1].Operations - b.Operations) / (double)(g.Record.Log.Beats[^1].GuestMs - b.GuestMs))];
                double without = rates[guests.FindIndex(static g => g.Interval == 0)];
                for (int i = 0; i < guests.Count; i++)
                {
                    if (guests[i].Interval != 0)
                        seen.Add((workload, guests[i].Interval, 100 * (1 - (rates[i] / without))));
                }
            }

            return [.. guests.Select(g => (g.Interval, AgentLog.BalloonOrders(cluster, Host, NameOf(g.Interval)).Count, g.Record.Log.IsClean))];
        }
        finally
        {
            foreach (var (interval, _) in guests)
                await client.DeleteVmAsync(NameOf(interval), force: true, CancellationToken.None);
        }

        VmName NameOf(int interval) => VmName.Parse($"{like.Append!.Split(' ')[0].Split('=')[1]}-{run}-{interval}");
    }

    /// <summary>Returns when all of them have done some work.</summary>
    private static async Task WorkingAsync(IReadOnlyList<GuestRecord> records, CancellationToken cancellation)
    {
        for (long began = TimeProvider.System.GetTimestamp(); TimeProvider.System.GetElapsedTime(began) < BootDeadline; await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, cancellation))
        {
            foreach (var record in records)
                record.ReadFrom(Host);
            if (records.All(static r => r.Log.Beats is [.., { Operations: > 0 }]))
                return;
        }

        throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guests did not begin to work within {BootDeadline.TotalSeconds:0} s.");
    }

    private static string Markdown(BalloonCostReport report)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# What a balloon loop costs its guest\n\nMachine: {report.Machine}\n\nGuests: `{report.Guest}`, all of a run at the same time, one of them without a loop.\n\n");
        text.Append("Slower: per cent by which a guest did less than the one without a loop in the same five seconds: median (lower – upper quartile) of all windows; the first ones, in which the balloon is filled, are among them. ");
        text.Append("Orders: sizes that the guest was asked for in all runs.\n\n| workload | interval | slower % | windows | orders |\n|---|---|---|---|---|\n");
        foreach (var row in report.Rows.OrderBy(static r => r.Workload, StringComparer.Ordinal).ThenByDescending(static r => r.IntervalMs))
        {
            text.Append(
                CultureInfo.InvariantCulture,
                $"| {row.Workload} | {row.IntervalMs / 1000.0} s | {row.Slower.Median:0.0} ({row.Slower.LowerQuartile:0.0} – {row.Slower.UpperQuartile:0.0}) | {row.Slower.Count} | {row.Orders} |\n");
        }

        if (!report.AllClean)
            text.Append("\n**Guests found errors in their memory.**\n");
        return text.ToString();
    }
}
