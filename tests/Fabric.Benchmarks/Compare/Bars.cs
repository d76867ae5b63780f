using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>One bar and what was measured against it; met is null when nothing can be said.</summary>
public sealed record Verdict(string Bar, string Needed, string Figure, bool? Met);

/// <summary>
/// What Fabric is held to beside QEMU, cell by cell, on medians. QEMU's best setting in a mode is its row with the least total time there. A setting whose moves do not end in their time has no figure, and any move that ends
/// is better.
/// </summary>
internal static class Bars
{
    /// <summary>The mover that is judged.</summary>
    internal const string Own = "fabric";

    /// <summary>The plan's limit when a migration names none.</summary>
    private const double DowntimeLimitMs = 300;

    private const double PostCopyMost = 10;
    private const double IdlePreCopyMost = 10;
    private const double WritingPreCopyMost = 30;
    private const double PostCopyBeyond = 5;

    private const double AutoMost = 1.3;

    /// <summary>A guest that writes so many times what the link carries outruns any pre-copy.</summary>
    private const double Outruns = 2;

    /// <summary>Beats are 250 ms apart, and are seen to 10 ms.</summary>
    private const double LostWorkGrain = 25;

    internal static IReadOnlyList<Verdict> Of(Cell cell)
    {
        ArgumentNullException.ThrowIfNull(cell);
        var rows = cell.Rows();
        var verdicts = new List<Verdict>();
        foreach (var mode in new[] { MoveMode.PreCopy, MoveMode.PostCopy })
        {
            if (rows.FirstOrDefault(r => r.Mover == Own && r.Mode == mode) is not { } own)
                continue;
            var others = rows.Where(r => r.Mover != Own && r.Mode == mode).ToList();
            var best = others.Where(static r => r.TotalMs is not null).MinBy(static r => r.TotalMs!.Median);
            string name = CompareOptions.NameOf(mode);
            if (others.Count > 0)
                verdicts.Add(Total(cell, name, own, best));
            verdicts.AddRange(Downtime(cell, name, own, others.FirstOrDefault(static r => r.Mover == "qemu")));
            if (others.Count > 0 && cell.Load.Kind != LoadKind.Idle)
                verdicts.Add(LostWork(name, own, others.Where(static r => r.LostWorkMs is not null).MinBy(static r => r.TotalMs!.Median)));
        }

        if (rows.FirstOrDefault(static r => r is { Mover: Own, Mode: MoveMode.Auto }) is { } auto)
            verdicts.AddRange(Auto(cell, auto, rows));
        return verdicts;
    }

    private static Verdict Total(Cell cell, string mode, ReportRow own, ReportRow? best)
    {
        double most = cell.Link.Shape is null ? 0.8 : cell.Load.Kind == LoadKind.WriteHeavy ? 0.9 : 1.0;
        return Compare($"{mode}: total time", Invariant($"≤ {most:0.0} × QEMU's best"), own.TotalMs, best?.TotalMs, best?.Mover, (mine, theirs) => mine <= most * theirs, ratio: true);
    }

    private static IEnumerable<Verdict> Downtime(Cell cell, string mode, ReportRow own, ReportRow? defaults)
    {
        bool pull = own.Mode == MoveMode.PostCopy;
        if (defaults is not null)
        {
            yield return pull
                ? Compare($"{mode}: downtime", Invariant($"≤ QEMU's default + {PostCopyBeyond:0} ms"), own.DowntimeMs, defaults.DowntimeMs, defaults.Mover, static (mine, theirs) => mine <= theirs + PostCopyBeyond, ratio: false)
                : Compare($"{mode}: downtime", "≤ 0.25 × QEMU's default", own.DowntimeMs, defaults.DowntimeMs, defaults.Mover, static (mine, theirs) => mine <= 0.25 * theirs, ratio: true);
        }

        double? most = (pull, cell.Load.Kind, cell.Link.Shape) switch
        {
            (true, _, _) => PostCopyMost,
            (false, LoadKind.Idle, null) => IdlePreCopyMost,
            (false, LoadKind.WriteHeavy, null) => WritingPreCopyMost,
            _ => null,
        };
        if (most is { } bound)
            yield return Alone($"{mode}: downtime", Invariant($"≤ {bound:0} ms"), own.DowntimeMs, bound);
    }

    private static Verdict LostWork(string mode, ReportRow own, ReportRow? best) => Compare(
        $"{mode}: work that the guest lost", Invariant($"≤ QEMU's best (+ {LostWorkGrain:0} ms, the grain)"), own.LostWorkMs, best?.LostWorkMs, best?.Mover, static (mine, theirs) => mine <= theirs + LostWorkGrain, ratio: false);

    private static IEnumerable<Verdict> Auto(Cell cell, ReportRow own, IReadOnlyList<ReportRow> rows)
    {
        yield return Alone("auto: downtime", Invariant($"≤ {DowntimeLimitMs:0} ms, its limit"), own.DowntimeMs, DowntimeLimitMs);
        if (cell.Link.BytesPerSecond is not { } rate || cell.Load.Kind != LoadKind.WriteHeavy || (cell.Load.Rate > 0 && cell.Load.Rate * (double)VmSpec.PageSize < 0.99 * Outruns * rate))
            yield break;
        const string Needed = "≤ 1.3 × one copy / link";
        double copyMs = 1000 * CopyMebibytes(cell, rows) * ByteSize.Mebi / rate;
        yield return own.TotalMs is { } total
            ? new Verdict("auto: total time", Needed, Invariant($"{total.Median:0} / {copyMs:0} ms = {total.Median / copyMs:0.00}"), total.Median <= AutoMost * copyMs)
            : NoMove("auto: total time", Needed);
    }

    /// <summary>What the guest holds: the least that a post-copy of it sent, in which each page crosses once; where there was none, what its workload filled.</summary>
    private static double CopyMebibytes(Cell cell, IReadOnlyList<ReportRow> rows) =>
        rows.Where(static r => r.Mode == MoveMode.PostCopy).Select(static r => r.WireMebibytes?.Median).Min() ?? cell.Load.Filled;

    private static Verdict Compare(string bar, string needed, Statistics? own, Statistics? other, string? otherName, Func<double, double, bool> met, bool ratio)
    {
        if (own is null)
            return NoMove(bar, needed);
        if (other is null)
            return otherName is null
                ? new Verdict(bar, needed, Invariant($"{own.Median:0.0} ms; no move of QEMU's ended"), true)
                : new Verdict(bar, needed, Invariant($"{own.Median:0.0} ms, {otherName}: no figure"), null);
        string beside = ratio ? Invariant($" = {own.Median / other.Median:0.00}") : "";
        return new Verdict(bar, needed, Invariant($"{own.Median:0.0} / {other.Median:0.0} ms ({otherName}){beside}"), met(own.Median, other.Median));
    }

    private static Verdict Alone(string bar, string needed, Statistics? own, double most) =>
        own is null ? NoMove(bar, needed) : new Verdict(bar, needed, Invariant($"{own.Median:0.0} ms"), own.Median <= most);

    private static Verdict NoMove(string bar, string needed) => new(bar, needed, "no move of Fabric's ended", false);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
