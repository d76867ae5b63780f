namespace Fabric.Benchmarks.Compare;

/// <summary>How much a guest had done when one of its beats came: a moment of this machine's clock, and the steps that its workload counts.</summary>
public readonly record struct WorkSample(TimeSpan At, long Operations);

/// <summary>What a move cost a guest: see <see cref="GuestWork"/>.</summary>
/// <param name="Ms">How far the guest fell behind, at most: milliseconds of its work.</param>
/// <param name="PaceAfter">Its pace when the move was long over, by that before; null where too little of it was seen.</param>
public readonly record struct WorkLost(double Ms, double? PaceAfter);

/// <summary>
/// What a move costs the guest, in the guest's own coin. Before the move its workload goes at some pace, and at some pace when the move is long over. From the start of the move on, "behind" is how long it would have to
/// work at the first pace to be where it would be without the move; the most of it within the window is the work lost. A stop, pages waited for, a processor shared with the mover and a guest that is held back on purpose
/// all count, each with its length.
/// <para>
/// Without the move the pace would go in a straight line from the one to the other: a guest that works as fast as it can does so as the host's neighbours let it, now a third faster and now slower, within seconds. What the
/// first pace alone would say of the seconds after a move says nothing of the move. A guest that is slower for good where it is now shows in <see cref="WorkLost.PaceAfter"/>.
/// </para>
/// <para>
/// A guest that is paced and has time to spare catches up, one that works as fast as it can does not: the most, and not what is left at the end, says the same of both.
/// A beat is written every 250 ms of guest time, so what a paced guest loses and catches up in between is not seen.
/// </para>
/// </summary>
internal static class GuestWork
{
    /// <summary>Beats whose pace is taken, before the move and long after it: three seconds of them.</summary>
    public const int PaceBeats = 12;

    /// <summary>A guest that has just arrived is not yet at its pace: what it still has to catch up, and what its host does for the move's end, is the move's.</summary>
    public static readonly TimeSpan Settling = TimeSpan.FromMilliseconds(500);

    /// <summary>A workload of fewer steps a second says nothing of milliseconds.</summary>
    private const double LeastPerSecond = 1000;

    /// <param name="samples">In the order of time, from before and after the start.</param>
    /// <param name="start">Of the move.</param>
    /// <param name="ended">When it was over.</param>
    /// <param name="window">From the start; what comes later does not count.</param>
    /// <returns>Null when too little is known from before the move, or the guest does nothing that is worth counting.</returns>
    public static WorkLost? Of(IReadOnlyList<WorkSample> samples, TimeSpan start, TimeSpan ended, TimeSpan window)
    {
        ArgumentNullException.ThrowIfNull(samples);
        List<WorkSample> before = [.. samples.TakeWhile(s => s.At <= start).TakeLast(PaceBeats)];
        double pace = before.Count < PaceBeats ? 0 : PerSecond(before);
        if (pace < LeastPerSecond)
            return null;
        var last = before[^1];
        List<WorkSample> after = [.. samples.Where(s => s.At >= ended + Settling).TakeLast(PaceBeats)];
        double? later = after.Count < PaceBeats ? null : PerSecond(after) / pace;
        double until = later is null ? 1 : (Middle(after) - Middle(before)).TotalSeconds;
        double most = 0;
        var seen = last;
        foreach (var sample in samples.Where(s => s.At > start && s.At <= start + window))
        {
            most = Math.Max(most, Expected(sample.At) - Done(sample));
            seen = sample;
        }

        // A guest that stands at the end of the window does not beat any more.
        if (start + window - seen.At > TimeSpan.FromSeconds(1))
            most = Math.Max(most, Expected(start + window) - Done(seen));
        return new WorkLost(1000 * most, later);

        double Done(WorkSample sample) => (sample.Operations - last.Operations) / pace;

        // Seconds of work at the first pace from the last beat before the move on: the area below the line.
        double Expected(TimeSpan at) => Area(at) - Area(last.At);

        double Area(TimeSpan at)
        {
            double passed = (at - Middle(before)).TotalSeconds;
            double onLine = Math.Clamp(passed, 0, until);
            double slope = ((later ?? 1) - 1) / until;
            return passed + (slope * onLine * onLine / 2) + (slope * until * Math.Max(0, passed - until));
        }
    }

    private static double PerSecond(List<WorkSample> beats) => (beats[^1].Operations - beats[0].Operations) / (beats[^1].At - beats[0].At).TotalSeconds;

    private static TimeSpan Middle(List<WorkSample> beats) => (beats[0].At + beats[^1].At) / 2;
}
