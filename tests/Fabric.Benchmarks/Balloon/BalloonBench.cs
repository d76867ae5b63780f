using System.Globalization;
using System.Text;
using System.Text.Json;
using Fabric.Benchmarks.Compare;
using Fabric.Benchmarks.Moving;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Benchmarks.Balloon;

/// <summary>One way to move: over which link, with or without a balloon, over all its runs that did not fail. <paramref name="Parts"/>: medians.</summary>
public sealed record BalloonRow(string Link, MoveMode Mode, string Balloon, int Runs, int Failures, Statistics? TotalMs, Statistics? DowntimeMs, Statistics? GapMs, Statistics? WireMebibytes, HandOverParts? Parts, bool AllClean);

public sealed record BalloonReport(string Machine, string Guest, IReadOnlyList<BalloonRow> Rows);

/// <summary>Who takes free memory into the balloon: nobody, the migration (auto), or the VM's own loop, long before (steady).</summary>
internal sealed record BalloonVariant(string Name, BalloonUse Use, BalloonSpec? Own);

/// <summary>What self-ballooning saves, and what it costs: a guest that has dirtied and freed most of its memory is moved with and without it, in alternation, over loopback and over a slow link.</summary>
public static class BalloonBench
{
    public const string Usage = """
        fabric-bench balloon [--runs N] [--memory SIZE] [--free-mb N] [--keep N] [--bandwidth SIZE] [--link LIST] [--mode LIST] [--balloon LIST] [--out DIR]
          Moves a guest that freed --free-mb MiB in pieces of --keep pages (0: whole), by itself (off), with migrate --balloon auto, and with a balloon that vm create --balloon steady has
          filled long before; writes balloon.md and balloon.json to DIR (artifacts/bench). --bandwidth: of the slow link, bytes a second. Lists have commas: --link loopback,slow
          --mode pre-copy,post-copy --balloon off,auto,steady.
        """;

    private static readonly TimeSpan MoveWithin = TimeSpan.FromSeconds(60);
    private static readonly MoveMode[] Modes = [MoveMode.PreCopy, MoveMode.PostCopy];

    /// <summary>The interval changes how long it takes to fill, which is not measured here.</summary>
    private static readonly BalloonVariant[] Variants =
        [new("off", BalloonUse.Off, null), new("auto", BalloonUse.Auto, null), new("steady", BalloonUse.Off, new BalloonSpec(1000))];

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> options, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(talk);
        int runs = BenchOptions.Number(options, "runs", 5, 1, 1000);
        long slow = ByteSize.Parse(options.GetValueOrDefault("bandwidth", "32M"), "--bandwidth");
        var guest = Guest(options);
        (string Link, long? Bytes)[] links = BenchOptions.Chosen<(string Link, long? Bytes)>(options, "link", [("loopback", null), (ByteSize.Format(slow) + "/s", slow)], static l => l.Bytes is null ? "loopback" : "slow");
        var modes = BenchOptions.Chosen(options, "mode", Modes, Name);
        var variants = BenchOptions.Chosen(options, "balloon", Variants, static v => v.Name);
        var results = new List<(string Link, string Balloon, MoveResult Result)>();
        await using (var mover = new FabricMover(lab: null, TimeProvider.System))
        {
            if (mover.Unavailable is { } why)
                throw new FabricException(ErrorCodes.Unsupported, why);
            for (int run = 0; run < runs; run++)
            {
                foreach (var (link, bytes) in links)
                {
                    foreach (var mode in modes)
                    {
                        foreach (var variant in variants)
                        {
                            var move = new PlannedMove(guest, mode, MoveWithin, Window: TimeSpan.Zero, variant.Own);
                            var result = await mover.MoveAsync(variant.Name, move, new MigrationOptions(BandwidthBytesPerSecond: bytes, Balloon: variant.Use), cancellation);
                            results.Add((link, variant.Name, result));
                            await talk.WriteLineAsync(Line(run, link, result));
                        }
                    }
                }
            }
        }

        var report = new BalloonReport(BenchReport.Machine(guest.Accelerator), $"{ByteSize.Format(guest.MemoryBytes)}, {guest.Append}", Rows(results));
        await BenchReport.WriteAsync(options, "balloon", JsonSerializer.Serialize(report, BenchReport.Json), Markdown(report), talk);
        return results.All(r => r.Result is { Failure: null, GuestClean: true }) ? 0 : 1;
    }

    private static string Name(MoveMode mode) => mode == MoveMode.PreCopy ? "pre-copy" : "post-copy";

    private static GuestImage Guest(IReadOnlyDictionary<string, string> options) => new(
        BenchOptions.Existing(options, "kernel", "FABRIC_GUEST_KERNEL"),
        BenchOptions.Existing(options, "initrd", "FABRIC_GUEST_INITRD"),
        string.Create(
            CultureInfo.InvariantCulture,
            $"fabric.workload=freed fabric.mb=16 fabric.rate=2000 fabric.free-mb={BenchOptions.Number(options, "free-mb", 150, 1, 1 << 20)} fabric.keep={BenchOptions.Number(options, "keep", 64, 0, 1 << 20)}"),
        ByteSize.Parse(options.GetValueOrDefault("memory", "256M"), "--memory"),
        "tcg");

    private static List<BalloonRow> Rows(List<(string Link, string Balloon, MoveResult Result)> results) =>
    [
        .. from r in results
           group r.Result by (r.Link, r.Result.Mode, r.Balloon) into g
           let good = g.Where(r => r.Failure is null).ToList()
           select new BalloonRow(
               g.Key.Link, g.Key.Mode, g.Key.Balloon, good.Count, g.Count() - good.Count, Statistics.Of(good.Select(r => r.TotalMs)), Statistics.Of(good.Select(r => r.DowntimeMs)),
               Statistics.Of(good.Where(r => r.GuestGapMs is not null).Select(r => r.GuestGapMs!.Value)), Statistics.Of(good.Select(r => r.WireBytes / (double)ByteSize.Mebi)), Medians([.. good.Select(static r => r.Parts).OfType<HandOverParts>()]),
               good.Count > 0 && good.All(r => r.GuestClean)),
    ];

    private static HandOverParts? Medians(List<HandOverParts> all) => all.Count == 0 ? null : new HandOverParts(
        Statistics.Of(all.Select(static p => p.Stop))!.Median, Statistics.Of(all.Select(static p => p.Save))!.Median,
        Statistics.Of(all.Select(static p => p.Ready))!.Median, Statistics.Of(all.Select(static p => p.Resume))!.Median);

    private static string Markdown(BalloonReport report)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Moving a guest with and without its free memory\n\nMachine: {report.Machine}\n\nGuest: `{report.Guest}`; every run with a freshly booted guest, in alternation.\n\n");
        text.Append("Milliseconds: median (least – most). Total: the destination waits → all is there and the guest runs; the seconds in which the balloon takes memory are in it. ");
        text.Append("Downtime's parts, medians: until the vCPUs stand, saving the devices, the rest with the load at the destination, token and resume. Gap: longest time in which the running guest could not go on.\n\n");
        text.Append("| link | mode | balloon | runs | total | downtime | stop / save / load / resume | gap (guest) | MiB on the wire | guest's memory |\n|---|---|---|---|---|---|---|---|---|---|\n");
        foreach (var row in report.Rows)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {row.Link} | {Name(row.Mode)} | {row.Balloon} | {row.Runs}{(row.Failures > 0 ? $" (+{row.Failures} failed)" : "")} ");
            text.Append(CultureInfo.InvariantCulture, $"| {Show(row.TotalMs)} | {Show(row.DowntimeMs)} | {Show(row.Parts)} | {Show(row.GapMs)} | {Show(row.WireMebibytes)} | {(row.AllClean ? "clean" : "ERRORS")} |\n");
        }

        return text.ToString();
    }

    private static string Show(HandOverParts? parts) => parts is null
        ? "–"
        : string.Create(CultureInfo.InvariantCulture, $"{parts.Stop:0.0} / {parts.Save:0.0} / {parts.Ready:0.0} / {parts.Resume:0.0}");

    private static string Show(Statistics? value) => value?.ToText() ?? "–";

    private static string Line(int run, string link, MoveResult result) => result.Failure is { } why
        ? $"{run + 1} {link,-12} {result.Mode,-9} {result.Mover,-6} FAILED: {why}"
        : string.Create(CultureInfo.InvariantCulture, $"{run + 1} {link,-12} {result.Mode,-9} {result.Mover,-6} total {result.TotalMs,8:0.0} ms  downtime {result.DowntimeMs,7:0.0} ms ({Show(result.Parts)})  {ByteSize.Format(result.WireBytes),10}  {(result.GuestClean ? "clean" : "MEMORY ERRORS")}");
}
