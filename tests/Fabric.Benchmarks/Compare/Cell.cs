using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>One guest over one link, with all its moves so far.</summary>
/// <param name="Command">What measures this cell alone.</param>
public sealed record Cell(MoveLink Link, GuestLoad Load, TimeSpan Within, string Command, List<MoveResult> Results)
{
    /// <summary>For how long the guest's work is looked at from the start of a move: the same for all movers. Zero: it does none.</summary>
    public TimeSpan Window => Load.Kind == LoadKind.Idle ? TimeSpan.Zero : Load.Window(Link);

    public string Title => $"{Link.Name}, {CompareOptions.NameOf(Load.Kind)}, {ByteSize.Format(Load.MemoryBytes)}";

    public IReadOnlyList<ReportRow> Rows() =>
        [.. Results.GroupBy(static r => (r.Mode, r.Mover)).OrderBy(static g => g.Key.Mode).ThenBy(static g => g.Key.Mover, StringComparer.Ordinal).Select(static g => ReportRow.Of(g.Key.Mover, g.Key.Mode, [.. g]))];
}

/// <summary>One row: a mover in a mode, over all its runs that ended well. Those that did not end in their time and those that failed are counted.</summary>
public sealed record ReportRow(
    string Mover, MoveMode Mode, int Runs, int NoEnds, int Failures, Statistics? TotalMs, Statistics? DowntimeMs, Statistics? GuestStoppedMs, Statistics? GuestGapMs, Statistics? LostWorkMs, Statistics? PaceAfter,
    Statistics? WireMebibytes, bool AllVerified, bool AllClean)
{
    public static ReportRow Of(string mover, MoveMode mode, IReadOnlyList<MoveResult> moves)
    {
        MoveResult[] good = [.. moves.Where(static r => r.Failure is null)];
        return new ReportRow(
            mover, mode, good.Length, moves.Count(static r => r.NoEnd), moves.Count(static r => r is { Failure: not null, NoEnd: false }),
            Take(static r => r.TotalMs), Take(static r => r.DowntimeMs), Take(static r => r.GuestStoppedMs), Take(static r => r.GuestGapMs), Take(static r => r.LostWorkMs), Take(static r => r.PaceAfter),
            Take(static r => r.WireBytes / (double)ByteSize.Mebi), good.Length > 0 && good.All(static r => r.Verified == true), good.Length > 0 && good.All(static r => r.GuestClean));

        Statistics? Take(Func<MoveResult, double?> number) => Statistics.Of(good.Select(number).OfType<double>());
    }
}
