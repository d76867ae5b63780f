using System.Diagnostics;
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
/// One workload under one interval, null: of the twin that has no loop either. <paramref name="Dearer"/>: per cent by which a piece of the guest's work took more CPU time than that of its twin without a loop, over windows of some
/// seconds; below zero, less. <paramref name="Orders"/>: sizes that it was asked for, over all runs.
/// </summary>
public sealed record BalloonCostRow(string Workload, int? IntervalMs, Statistics Dearer, int Orders);

public sealed record BalloonCostReport(string Machine, string Guest, IReadOnlyList<BalloonCostRow> Rows, bool AllClean);

/// <summary>
/// What a VM's own balloon loop costs its guest. Guests that differ in their interval alone, and one without a loop, run at the same time on one host, made in another order each time. What each
/// has done is divided by the CPU time that its QEMU has had (the vCPU's, which does the driver's work too, and the main thread's, which does the device's) and compared with the one without,
/// window by window: how much of a processor a guest gets on a host that others use decides more about its progress in a second than any loop does.
/// </summary>
public static class BalloonCost
{
    public const string Usage = """
        fabric-bench balloon-cost [--runs N] [--seconds N] [--memory SIZE] [--mb N] [--workload LIST] [--interval LIST] [--out DIR]
          Compares the work that guests with a balloon loop of 5 s, 1 s and 0.5 s do in a second of CPU time with that of one without, at the same time, and that with a twin that has none
          either; writes balloon-cost.md and .json to DIR (artifacts/bench).
          --mb: of the workload. --interval: none, 5s, 1s, 0.5s, with commas between. --workload: read-heavy, write-heavy, compile-like, with commas between.
        """;

    private static readonly TimeSpan BootDeadline = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(10);
    private static readonly string[] Workloads = ["read-heavy", "write-heavy", "compile-like"];
    private const int WithoutLoop = 0;
    private const int Twin = 1; // as well without: what it differs by is chance
    private static readonly int[] Intervals = [Twin, 5000, 1000, 500];

    private static readonly HostName Host = HostName.Parse("alpha");

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> options, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(talk);
        int runs = BenchOptions.Number(options, "runs", 2, 1, 100);
        int windows = Math.Max(1, (int)(BenchOptions.Number(options, "seconds", 40, 10, 3600) / Window.TotalSeconds));
        string[] workloads = BenchOptions.Chosen(options, "workload", Workloads, static w => w);
        int[] intervals = [WithoutLoop, .. BenchOptions.Chosen(options, "interval", Intervals, Text)];
        if (Preflight.WhyNot(Preflight.Run(new PreflightOptions())) is { } why)
            throw new FabricException(ErrorCodes.Unsupported, why);
        var seen = new List<(string Workload, int Interval, double Dearer)>();
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
                    var guests = await RunOnceAsync(cluster, Spec(options, workload), intervals, run, windows, seen, cancellation);
                    clean &= guests.All(static g => g.Clean);
                    foreach (var guest in guests)
                        orders[(workload, guest.Interval)] = orders.GetValueOrDefault((workload, guest.Interval)) + guest.Orders;
                    await talk.WriteLineAsync($"{run + 1} {workload}: {string.Join(", ", guests.Select(static g => $"{Text(g.Interval)} {g.Orders} orders"))}{(clean ? "" : ", MEMORY ERRORS")}");
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
                   group s.Dearer by (s.Workload, s.Interval) into g
                   select new BalloonCostRow(g.Key.Workload, g.Key.Interval == Twin ? null : g.Key.Interval, Statistics.Of(g)!, orders[g.Key]);
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
        LocalCluster cluster, VmSpec like, int[] intervals, int run, int windows, List<(string Workload, int Interval, double Dearer)> seen, CancellationToken cancellation)
    {
        using var client = new ControlClient(cluster.ApiUrl);
        var guests = Enumerable.Range(0, intervals.Length).Select(i => intervals[(i + run) % intervals.Length])
            .Select(interval => (Interval: interval, Record: new GuestRecord(cluster, NameOf(interval)))).ToList();
        try
        {
            foreach (var (interval, _) in guests)
                await client.CreateVmAsync(new CreateVmRequest(like with { Name = NameOf(interval), Balloon = interval is WithoutLoop or Twin ? null : new BalloonSpec(interval) }, Host), cancellation);
            await WorkingAsync([.. guests.Select(static g => g.Record)], cancellation);
            var processes = new List<Process>();
            foreach (var (interval, _) in guests)
                processes.Add(Process.GetProcessById((await client.VmAsync(NameOf(interval), cancellation)).ProcessId ?? throw new FabricException(ErrorCodes.NotFound, "A guest has no process.")));
            var before = await SampleAsync([.. guests.Select(static g => g.Record)], processes, cancellation);
            for (int window = 0; window < windows; window++)
            {
                await Task.Delay(Window, TimeProvider.System, cancellation);
                var after = await SampleAsync([.. guests.Select(static g => g.Record)], processes, cancellation);
                double[] costs = [.. after.Zip(before, static (a, b) => (a.Cpu - b.Cpu).TotalMilliseconds / (a.Operations - b.Operations))];
                double without = costs[guests.FindIndex(static g => g.Interval == WithoutLoop)];
                for (int i = 0; i < guests.Count; i++)
                {
                    if (guests[i].Interval != WithoutLoop)
                        seen.Add((WorkloadOf(like), guests[i].Interval, 100 * ((costs[i] / without) - 1)));
                }

                before = after;
            }

            processes.ForEach(static p => p.Dispose());
            return [.. guests.Select(g => (g.Interval, AgentLog.BalloonOrders(cluster, Host, NameOf(g.Interval)).Count, g.Record.Log.IsClean))];
        }
        finally
        {
            foreach (var (interval, _) in guests)
                await client.DeleteVmAsync(NameOf(interval), force: true, CancellationToken.None);
        }

        VmName NameOf(int interval) => VmName.Parse($"{WorkloadOf(like)}-{run}-{interval}");
    }

    private static string Text(int interval) => interval is WithoutLoop or Twin ? "none" : string.Create(CultureInfo.InvariantCulture, $"{interval / 1000.0}s");

    private static string WorkloadOf(VmSpec spec) => spec.Append!.Split(' ')[0].Split('=')[1];

    /// <summary>Of each guest, at its next beat: the work that it has done and the CPU time that its process has had.</summary>
    private static async Task<(long Operations, TimeSpan Cpu)[]> SampleAsync(IReadOnlyList<GuestRecord> records, IReadOnlyList<Process> processes, CancellationToken cancellation)
    {
        var samples = new (long Operations, TimeSpan Cpu)?[records.Count];
        foreach (var record in records)
            record.ReadFrom(Host);
        int[] beats = [.. records.Select(static r => r.Log.Beats.Count)];
        for (long began = TimeProvider.System.GetTimestamp(); samples.Any(static s => s is null); await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, cancellation))
        {
            for (int i = 0; i < records.Count; i++)
            {
                if (samples[i] is not null)
                    continue;
                records[i].ReadFrom(Host);
                if (records[i].Log.Beats.Count == beats[i])
                    continue;
                processes[i].Refresh();
                samples[i] = (records[i].Log.Beats[^1].Operations, processes[i].TotalProcessorTime);
            }

            if (TimeProvider.System.GetElapsedTime(began) > BootDeadline)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"A guest has not beaten for {BootDeadline.TotalSeconds:0} s.");
        }

        return [.. samples.Select(static s => s!.Value)];
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
        text.Append("Dearer: per cent by which the guest's work took more CPU time of its QEMU than the same work of the one without a loop, in the same ten seconds: median (lower – upper quartile) of all windows; the first ones, in which the balloon is filled, are among them. None: its twin, without a loop as well, which shows what chance does. ");
        text.Append("Orders: sizes that the guest was asked for in all runs.\n\n| workload | interval | dearer % | windows | orders |\n|---|---|---|---|---|\n");
        foreach (var row in report.Rows.OrderBy(static r => r.Workload, StringComparer.Ordinal).ThenByDescending(static r => r.IntervalMs))
        {
            text.Append(
                CultureInfo.InvariantCulture,
                $"| {row.Workload} | {Text(row.IntervalMs ?? Twin)} | {row.Dearer.Median:0.0} ({row.Dearer.LowerQuartile:0.0} – {row.Dearer.UpperQuartile:0.0}) | {row.Dearer.Count} | {row.Orders} |\n");
        }

        if (!report.AllClean)
            text.Append("\n**Guests found errors in their memory.**\n");
        return text.ToString();
    }
}
