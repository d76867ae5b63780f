namespace Fabric.Benchmarks.Compare;

/// <summary>How much a guest had done when one of its beats came: a moment of this machine's clock, and the steps that its workload counts.</summary>
public readonly record struct WorkSample(TimeSpan At, long Operations);

/// <summary>
/// What a move costs the guest, in the guest's own coin. Before the move its workload goes at some rate. From the start of the move on, "behind" is how long it would have to work at that rate to be where it
/// would be without the move; the most of it within the window is the work lost. A stop, pages waited for, a processor shared with the mover and a guest that is held back on purpose all count, each with its length.
/// <para>
/// A guest that is paced and has time to spare catches up, one that works as fast as it can does not: the most, and not what is left at the end, says the same of both.
/// A beat is written every 250 ms of guest time, so what a paced guest loses and catches up in between is not seen; and a rate that changes by itself looks like work lost.
/// </para>
/// </summary>
internal static class GuestWork
{
    /// <summary>Beats before the move whose rate is taken: three seconds of them.</summary>
    public const int BeatsBefore = 12;

    /// <summary>A workload of fewer steps a second says nothing of milliseconds.</summary>
    private const double LeastPerSecond = 1000;

    /// <param name="samples">In the order of time, from before and after the start.</param>
    /// <param name="start">Of the move.</param>
    /// <param name="window">What comes later does not count.</param>
    /// <returns>Milliseconds; null when too little is known from before the move, or the guest does nothing that is worth counting.</returns>
    public static double? MostLostMs(IReadOnlyList<WorkSample> samples, TimeSpan start, TimeSpan window)
    {
        ArgumentNullException.ThrowIfNull(samples);
        var before = samples.TakeWhile(s => s.At <= start).TakeLast(BeatsBefore).ToList();
        if (before.Count < BeatsBefore)
            return null;
        var (first, last) = (before[0], before[^1]);
        double rate = (last.Operations - first.Operations) / (last.At - first.At).TotalSeconds;
        if (rate < LeastPerSecond)
            return null;
        double most = 0;
        var seen = last;
        foreach (var sample in samples.Where(s => s.At > start && s.At <= start + window))
        {
            most = Math.Max(most, BehindSeconds(sample.At, sample.Operations));
            seen = sample;
        }

        // A guest that stands at the end of the window does not beat any more.
        if (start + window - seen.At > TimeSpan.FromSeconds(1))
            most = Math.Max(most, BehindSeconds(start + window, seen.Operations));
        return 1000 * most;

        double BehindSeconds(TimeSpan at, long operations) => (at - last.At).TotalSeconds - ((operations - last.Operations) / rate);
    }
}
