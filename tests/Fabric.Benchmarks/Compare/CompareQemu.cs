using System.Globalization;
using Fabric.Benchmarks.Qemu;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>
/// <c>fabric-bench compare-qemu</c>: the same guest moved by Fabric and by QEMU itself. Runs alternate: each round has every mover once, the
/// order turned by one from round to round, so that a machine that gets slower or warmer favours nobody.
/// </summary>
public static class CompareQemu
{
    public const string Usage = """
        fabric-bench compare-qemu [--runs 10] [--memory 256M] [--mb 64] [--rate 5000] [--channels 2] [--accel tcg|kvm]
                                  [--only MOVER,…] [--modes pre-copy,post-copy] [--kernel FILE --initrd FILE] [--out DIR]
          Writes compare-qemu.md and compare-qemu.json to DIR (artifacts/bench). Movers: fabric, qemu, qemu-best.
          The kernel and the initrd come from guests/build.sh (FABRIC_GUEST_KERNEL, FABRIC_GUEST_INITRD) where they are not given.
          --rate: pages a second that the write-heavy guest rewrites; 0 is as fast as it can, which QEMU's defaults may never finish.
        """;

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> options, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(talk);
        int runs = BenchOptions.Number(options, "runs", 10, 1, 1000);
        var guest = Guest(options);
        var modes = options.GetValueOrDefault("modes", "pre-copy,post-copy").Split(',').Select(Mode).ToList();
        var movers = Movers(options, talk);
        var results = new List<MoveResult>();
        try
        {
            await AlternateAsync(movers, modes, guest, runs, results, talk, cancellation);
        }
        finally
        {
            foreach (var mover in movers.OfType<IAsyncDisposable>())
                await mover.DisposeAsync();
        }

        var report = Report.Of(BenchReport.Machine(guest.Accelerator), $"{ByteSize.Format(guest.MemoryBytes)}, {guest.Append}", runs, "qemu", results);
        await BenchReport.WriteAsync(options, "compare-qemu", report.ToJson(), report.ToMarkdown(), talk);
        return results.All(r => r is { Failure: null, GuestClean: true }) ? 0 : 1;
    }

    private static async Task AlternateAsync(
        List<IMover> movers, List<MoveMode> modes, GuestImage guest, int runs, List<MoveResult> results, TextWriter talk, CancellationToken cancellation)
    {
        for (int run = 0; run < runs; run++)
        {
            for (int i = 0; i < movers.Count * modes.Count; i++)
            {
                int turn = (i + run) % (movers.Count * modes.Count);
                var (mover, mode) = (movers[turn % movers.Count], modes[turn / movers.Count]);
                var result = await mover.MoveAsync(guest, mode, cancellation);
                results.Add(result);
                await talk.WriteLineAsync(Line(run, runs, result));
            }
        }
    }

    private static List<IMover> Movers(IReadOnlyDictionary<string, string> options, TextWriter talk)
    {
        int channels = BenchOptions.Number(options, "channels", 2, 1, 255);
        IMover[] all = [new FabricMover(TimeProvider.System), new QemuOwnMigration(QemuTuning.Defaults, channels, TimeProvider.System), new QemuOwnMigration(QemuTuning.Best, channels, TimeProvider.System)];
        string[] only = options.TryGetValue("only", out string? names) ? names.Split(',') : [.. all.Select(m => m.Name)];
        if (only.Except(all.Select(m => m.Name)).FirstOrDefault() is { } unknown)
            throw new FabricException(ErrorCodes.InvalidArgument, $"There is no mover '{Label.Shorten(unknown)}'.", "Movers: " + string.Join(", ", all.Select(m => m.Name)));
        var movers = new List<IMover>();
        foreach (var mover in all.Where(m => only.Contains(m.Name)))
        {
            if (mover.Unavailable is { } why)
                talk.WriteLine($"{mover.Name} is left out: {why}");
            else
                movers.Add(mover);
        }

        return movers.Count > 0 ? movers : throw new FabricException(ErrorCodes.Unsupported, "No mover can be used here.");
    }

    private static GuestImage Guest(IReadOnlyDictionary<string, string> options)
    {
        string accelerator = options.GetValueOrDefault("accel", "tcg");
        if (accelerator is not ("tcg" or "kvm"))
            throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(accelerator)}' is not an accelerator.", "Use tcg or kvm.");
        string append = string.Create(
            CultureInfo.InvariantCulture,
            $"fabric.workload=write-heavy fabric.mb={BenchOptions.Number(options, "mb", 64, 1, 1 << 20)} fabric.rate={BenchOptions.Number(options, "rate", 5000, 0, 1 << 30)}");
        return new GuestImage(
            BenchOptions.Existing(options, "kernel", "FABRIC_GUEST_KERNEL"),
            BenchOptions.Existing(options, "initrd", "FABRIC_GUEST_INITRD"),
            append,
            ByteSize.Parse(options.GetValueOrDefault("memory", "256M"), "--memory"),
            accelerator);
    }

    private static MoveMode Mode(string text) => text switch
    {
        "pre-copy" => MoveMode.PreCopy,
        "post-copy" => MoveMode.PostCopy,
        _ => throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a mode.", "Use pre-copy or post-copy."),
    };

    private static string Line(int run, int runs, MoveResult result) => result.Failure is { } why
        ? $"{run + 1}/{runs} {result.Mover,-10} {result.Mode,-9} FAILED: {why}"
        : string.Create(
            CultureInfo.InvariantCulture,
            $"{run + 1}/{runs} {result.Mover,-10} {result.Mode,-9} total {result.TotalMs,8:0.0} ms  downtime {result.DowntimeMs,7:0.0} ms  guest stopped {result.GuestStoppedMs,7:0.0} ms  gap {result.GuestGapMs,7:0.0} ms  {ByteSize.Format(result.WireBytes),10}  {(result.GuestClean ? "clean" : "MEMORY ERRORS")}");
}
