using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks.Soak;

/// <summary>
/// Says of each daemon whether it keeps something from every move. Compared are the medians of two windows of equal length: the second
/// fifth of all moves (of 100: the 21st to the 40th; by then code is compiled, pools and buffers are filled) and the last fifth. A leak of
/// one descriptor or thread a move shows as half the distance of the windows, far above the margins; what wobbles
/// (a pool's thread that comes and goes, a collection that has not come yet) stays below them. Samples in which the host has the guest are
/// compared only with their kind: it holds the guest's RAM and sockets then.
/// </summary>
public static class LeakCheck
{
    /// <summary>In fewer moves than this the daemons are still warming up: code is compiled, pools grow. Nothing is judged then.</summary>
    public const int LeastMoves = 50;

    /// <summary>A daemon's own memory may differ by so much, or by <see cref="MemoryShare"/> of it: the collector returns pages when it likes.</summary>
    public const long MemoryMarginBytes = 8 * ByteSize.Mebi;

    public const double MemoryShare = 0.1;

    /// <summary>A connection or two of the control traffic may be open or not.</summary>
    public const int DescriptorMargin = 4;

    /// <summary>The runtime's pool adds and ends threads as it sees fit.</summary>
    public const int ThreadMargin = 5;

    public static IEnumerable<SoakCheck> Of(IReadOnlyList<SoakSample> samples)
    {
        ArgumentNullException.ThrowIfNull(samples);
        if (samples.Count < LeastMoves)
            yield break;
        int fifth = samples.Count / 5;
        var early = samples.Skip(fifth).Take(fifth).ToList();
        var late = samples.Skip(samples.Count - fifth).ToList();
        foreach (string member in samples[0].Processes.Select(p => p.Member))
        {
            foreach (bool holds in (bool[])[true, false])
            {
                var before = Of(early, member, holds);
                var after = Of(late, member, holds);
                if (before.Count == 0 || after.Count == 0)
                    continue;
                string who = member + (samples.Any(s => s.Holder.Value == member) ? holds ? " with the guest" : " without it" : "");
                yield return Memory(who, Median(before, p => p.OwnBytes), Median(after, p => p.OwnBytes));
                if (!holds) // at a host with the guest it is mostly the guest's RAM, as far as the last move touched it
                    yield return Memory(who + ", shared", Median(before, p => p.SharedBytes), Median(after, p => p.SharedBytes));
                yield return Count(who, "descriptors", Median(before, p => p.Descriptors), Median(after, p => p.Descriptors), DescriptorMargin);
                yield return Count(who, "threads", Median(before, p => p.Threads), Median(after, p => p.Threads), ThreadMargin);
            }
        }
    }

    private static List<ProcessFootprint> Of(List<SoakSample> samples, string member, bool holds) =>
        [.. samples.Where(s => (s.Holder.Value == member) == holds).Select(s => s.Processes.First(p => p.Member == member))];

    private static double Median(List<ProcessFootprint> footprints, Func<ProcessFootprint, double> of)
    {
        double[] sorted = [.. footprints.Select(of).Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    private static SoakCheck Memory(string who, double before, double after)
    {
        double margin = Math.Max(MemoryMarginBytes, before * MemoryShare);
        string detail = string.Create(
            CultureInfo.InvariantCulture, $"{before / ByteSize.Mebi:0.0} → {after / ByteSize.Mebi:0.0} MiB, at most +{margin / ByteSize.Mebi:0} accepted");
        return new SoakCheck($"{who}: memory is flat", after <= before + margin, detail);
    }

    private static SoakCheck Count(string who, string what, double before, double after, int margin) =>
        new($"{who}: {what} are flat", after <= before + margin, string.Create(CultureInfo.InvariantCulture, $"{before:0.#} → {after:0.#}, at most +{margin} accepted"));
}
