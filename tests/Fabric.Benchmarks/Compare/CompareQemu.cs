using System.Globalization;
using Fabric.Benchmarks.Lab;
using Fabric.Benchmarks.Moving;
using Fabric.Benchmarks.Qemu;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>
/// <c>fabric-bench compare-qemu</c>: the same guest moved by Fabric and by QEMU itself, over the same link. Runs alternate: each round of a cell has every mover in every mode once, the
/// order turned by one from round to round, so that a machine that gets slower or warmer favours nobody.
/// </summary>
public static class CompareQemu
{
    public const string Usage = """
        fabric-bench compare-qemu [--runs 10] [--link loopback,1gbit,…] [--workload idle,read-heavy,write-heavy] [--memory 256M,1G,…] [--mb N] [--rate 5000|2x]
                                  [--modes pre-copy,post-copy,auto] [--only MOVER,…] [--cap N] [--channels 2] [--accel tcg|kvm] [--kernel FILE --initrd FILE] [--out DIR]
          Every link with every memory with every workload is one table. Writes compare-qemu.md and compare-qemu.json to DIR (artifacts/bench), after every table anew.
          Movers: fabric, qemu, qemu-best, qemu-shared. Exit 1: a move of Fabric's failed or broke the guest's memory; a bar that was missed is in the report.
          The kernel and the initrd come from guests/build.sh (FABRIC_GUEST_KERNEL, FABRIC_GUEST_INITRD) where they are not given.
          --link: loopback, or the rate of a shaped link between two network namespaces (root), such as 400mbit or 1gbit.
          --mb: MiB that the guest fills with patterns, 85 % of what it has unless given. --cap: seconds after which a move is called off, 30 or two copies' time unless given.
          --rate: pages a second that the write-heavy guest rewrites; 0: as fast as it can; 2x: twice what the link carries.
        """;

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(talk);
        var options = CompareOptions.Read(values);
        var cells = new List<Cell>();
        using var kept = KeptMemory.Begin();
        kept.TouchAll(talk, cancellation);
        try
        {
            foreach (var link in options.Links)
            {
                using var lab = link.Build();
                await MeasureAsync(options, link, lab, cells, values, talk, cancellation);
            }
        }
        finally
        {
            var report = new Report(BenchReport.Machine(options.Accelerator), options.Runs, cells);
            await BenchReport.WriteAsync(values, "compare-qemu", report.ToJson(), report.ToMarkdown(), talk);
        }

        return cells.SelectMany(static c => c.Results).Where(static r => r.Mover == Bars.Own).All(static r => r is { Failure: null, GuestClean: true }) ? 0 : 1;
    }

    /// <summary>All cells over one link. The movers have one cluster and one laboratory for them.</summary>
    private static async Task MeasureAsync(
        CompareOptions options, MoveLink link, LinkLab? lab, List<Cell> cells, IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        var movers = Movers(options, lab, talk);
        try
        {
            foreach (var (_, memory, kind) in options.Places().Where(p => p.Link == link))
            {
                var load = options.LoadOf(link, memory, kind);
                var cell = new Cell(link, load, options.WithinOf(link, load), options.Command(link, load), []);
                cells.Add(cell);
                await talk.WriteLineAsync($"\n{cell.Title}");
                await AlternateAsync(movers, options, cell, talk, cancellation);
                var report = new Report(BenchReport.Machine(options.Accelerator), options.Runs, cells);
                await BenchReport.WriteAsync(values, "compare-qemu", report.ToJson(), report.ToMarkdown(), TextWriter.Null);
            }
        }
        finally
        {
            foreach (var mover in movers.OfType<IAsyncDisposable>())
                await mover.DisposeAsync();
        }
    }

    private static async Task AlternateAsync(List<IMover> movers, CompareOptions options, Cell cell, TextWriter talk, CancellationToken cancellation)
    {
        var guest = new GuestImage(options.Kernel, options.Initrd, cell.Load.Append, cell.Load.MemoryBytes, options.Accelerator);
        List<(IMover Mover, MoveMode Mode)> turns = [.. from mode in options.Modes from mover in movers where mover.Knows(mode) select (mover, mode)];
        for (int run = 0; run < options.Runs; run++)
        {
            for (int i = 0; i < turns.Count; i++)
            {
                var (mover, mode) = turns[(i + run) % turns.Count];
                var result = await mover.MoveAsync(new PlannedMove(guest, mode, cell.Within, cell.Window), cancellation);
                cell.Results.Add(result);
                await talk.WriteLineAsync(Line(run, options.Runs, result));
            }
        }
    }

    private static List<IMover> Movers(CompareOptions options, LinkLab? lab, TextWriter talk)
    {
        IMover[] all =
        [
            new FabricMover(lab, TimeProvider.System), new QemuOwnMigration(QemuTuning.Defaults, options.Channels, lab, TimeProvider.System),
            new QemuOwnMigration(QemuTuning.Best, options.Channels, lab, TimeProvider.System), new QemuOwnMigration(QemuTuning.BestOnShared, options.Channels, lab, TimeProvider.System),
        ];
        if (options.Only.Except(all.Select(m => m.Name)).FirstOrDefault() is { } unknown)
            throw new FabricException(ErrorCodes.InvalidArgument, $"There is no mover '{Label.Shorten(unknown)}'.", "Movers: " + string.Join(", ", all.Select(m => m.Name)));
        var movers = new List<IMover>();
        foreach (var mover in all.Where(m => options.Only.Count == 0 || options.Only.Contains(m.Name)))
        {
            if (mover.Unavailable is { } why)
                talk.WriteLine($"{mover.Name} is left out: {why}");
            else
                movers.Add(mover);
        }

        return movers.Count > 0 ? movers : throw new FabricException(ErrorCodes.Unsupported, "No mover can be used here.");
    }

    private static string Line(int run, int runs, MoveResult result) => result.Failure is { } why
        ? $"{run + 1}/{runs} {result.Mover,-10} {CompareOptions.NameOf(result.Mode),-9} {(result.NoEnd ? "" : "FAILED: ")}{why}"
        : string.Create(
            CultureInfo.InvariantCulture,
            $"{run + 1}/{runs} {result.Mover,-10} {CompareOptions.NameOf(result.Mode),-9} total {result.TotalMs,8:0.0} ms  downtime {result.DowntimeMs,7:0.0} ms  guest stopped {result.GuestStoppedMs,7:0.0} ms  gap {result.GuestGapMs,7:0.0} ms  work lost {result.LostWorkMs,6:0} ms  {ByteSize.Format(result.WireBytes),10}  {(result.GuestClean ? "clean" : "MEMORY ERRORS")}");
}
