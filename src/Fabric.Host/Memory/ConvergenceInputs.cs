using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Host.Memory;

/// <summary>Turns what the rounds measured into the numbers that the decision is made on.</summary>
internal static class ConvergenceInputs
{
    /// <summary>Milliseconds: stop, save, load and continue of a machine whose memory is all there.</summary>
    internal const double FixedStopCostMs = 8;

    internal static ConvergenceInput From(MigrationOptions options, PushHistory history, TimeSpan elapsed)
    {
        var last = history.Rounds[^1];
        double seconds = Math.Max(last.Elapsed.TotalSeconds, 1e-6);
        long dirty = last.DirtyAfter * VmSpec.PageSize;
        return new ConvergenceInput(
            options.Mode, history.Rounds.Count, dirty, WireRate(history), dirty / seconds,
            [.. history.Rounds.SkipLast(1).Select(r => r.DirtyAfter * VmSpec.PageSize)], options.MaxDowntimeMs, FixedStopCostMs, elapsed);
    }

    /// <summary>Of the last round that sent enough to measure anything.</summary>
    private static double WireRate(PushHistory history)
    {
        const long Measurable = 256 * 1024;
        var measured = history.Rounds.LastOrDefault(r => r.WireBytes >= Measurable);
        return measured is null ? 0 : measured.WireBytes / Math.Max(measured.Elapsed.TotalSeconds, 1e-6);
    }
}
