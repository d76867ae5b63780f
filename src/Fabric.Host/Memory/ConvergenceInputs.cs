using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Memory;

/// <summary>Turns what a push measured into the numbers that the decision is made on.</summary>
internal static class ConvergenceInputs
{
    /// <summary>Milliseconds: stop, save, load and continue of a machine whose memory is all there.</summary>
    internal const double FixedStopCostMs = 8;

    /// <summary>At the end of a round.</summary>
    internal static ConvergenceInput From(MigrationOptions options, PushHistory history, TimeSpan elapsed, bool canThrottle)
    {
        var last = history.Rounds[^1];
        double seconds = Math.Max(last.Elapsed.TotalSeconds, 1e-6);
        var look = last.Last ?? new PushLook(last.PagesSent + last.PagesZero, 0, last.DirtyAfter, 0, 0, WireRate(history), 0);
        return From(options, history, look, elapsed) with
        {
            DirtyRate = last.DirtyAfter * VmSpec.PageSize / seconds,
            PreviousDirty = [.. history.Rounds.SkipLast(1).Skip(history.RoundsAtOtherSpeeds).Select(r => r.DirtyAfter * VmSpec.PageSize)],
            CanThrottle = canThrottle,
        };
    }

    /// <summary>In the middle of one.</summary>
    internal static ConvergenceInput From(MigrationOptions options, PushHistory history, PushLook look, TimeSpan elapsed) => new(
        options.Mode, history.Rounds.Count, look.DirtyPages * VmSpec.PageSize, look.WireRate, 0, [], options.MaxDowntimeMs, FixedStopCostMs, elapsed,
        look.SentPages * VmSpec.PageSize, look.LeftPages * VmSpec.PageSize, look.HotPages * VmSpec.PageSize, look.FreshPagesPerSecond * VmSpec.PageSize,
        look.MemoryPages * VmSpec.PageSize, history.CpuPercent, WrittenBytes: look.WrittenPages * VmSpec.PageSize, LineRate: look.LineRate);

    /// <summary>Of the last round that sent enough to measure anything, where the transfer itself does not measure.</summary>
    private static double WireRate(PushHistory history)
    {
        const long Measurable = 256 * 1024;
        var measured = history.Rounds.LastOrDefault(r => r.WireBytes >= Measurable);
        return measured is null ? 0 : measured.WireBytes / Math.Max(measured.Elapsed.TotalSeconds, 1e-6);
    }
}
