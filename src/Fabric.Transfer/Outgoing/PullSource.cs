using Fabric.Core;
using Fabric.Migration.PageOrders;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// What the destination still lacks. A page is claimed, atomically, by whoever is about to send it: one bulk sender or the urgent one; whoever
/// comes second does not send it. So each page crosses at most once. <see cref="ClaimWanted"/>, <see cref="ClaimAhead"/>, <see cref="ClaimAround"/> and <see cref="ClaimHot"/>: the urgent thread alone; all
/// else: any thread.
/// </summary>
/// <param name="missing">What the destination lacks; <paramref name="order"/> was made for the same map.</param>
/// <param name="pages">How many that are.</param>
internal sealed class PullSource(PageBitmap missing, long pages, IPageOrder order)
{
    /// <summary>Pages on a walk's way that others have sent are stepped over, so many times what is asked for.</summary>
    private const int Reach = 8;

    private readonly Lock _gate = new();
    private readonly long[] _faulted = new long[WantList.MaxPages];
    private long _left = pages;

    /// <summary>The newest page that <see cref="ClaimWanted"/> claimed: the urgent thread's.</summary>
    public long LastFault { get; private set; }

    /// <summary>Pages that nobody claimed yet.</summary>
    public long Left => Volatile.Read(ref _left);

    /// <summary>Claims the next pages for bulk, ascending from the front of <paramref name="chunk"/>. Returns how many; 0 when nothing is left.</summary>
    public int Claim(Span<long> chunk) => Claim(chunk, hot: false);

    /// <summary>Claims the likeliest of the pages that the guest will want without having been asked. Returns how many, ascending; 0 when none is left.</summary>
    public int ClaimHot(Span<long> pages) => Claim(pages, hot: true);

    /// <summary>
    /// Claims what is missing on the way of a walk, ascending, at most what fits into <paramref name="pages"/>. The search goes from <paramref name="next"/> on and ends with that many pages, or when it has
    /// looked at <see cref="Reach"/> times as many. Tells the order. Returns how many.
    /// </summary>
    public int ClaimAhead(ref long next, bool forward, Span<long> pages)
    {
        int step = forward ? 1 : -1;
        long first = next;
        int claimed = 0;
        for (int looked = 0; looked < Reach * pages.Length && claimed < pages.Length && (ulong)next < (ulong)missing.Length; looked++, next += step)
        {
            if (missing[next] && missing.AtomicClear(next))
                pages[claimed++] = next;
        }

        if (!forward)
            pages[..claimed].Reverse();
        Interlocked.Add(ref _left, -claimed);
        if (next != first)
        {
            lock (_gate)
                order.WentAlong(Math.Min(first, next - step), Math.Max(first, next - step));
        }

        return claimed;
    }

    /// <summary>
    /// Claims what is missing in the aligned blocks of 2^<paramref name="shift"/> pages around pages that <see cref="ClaimWanted"/> has just claimed; those come first in
    /// <paramref name="wanted"/>, ascending. Tells the order. Returns how many were added behind them; the span is large enough for any.
    /// </summary>
    public int ClaimAround(Span<long> wanted, int claimed, int shift)
    {
        int end = claimed;
        long done = -1;
        for (int i = 0; i < claimed; i++)
        {
            long block = wanted[i] >> shift;
            if (block == done)
                continue;
            done = block;
            long last = Math.Min((block + 1) << shift, missing.Length);
            for (long page = block << shift; page < last && end < wanted.Length; page++)
            {
                if (missing.AtomicClear(page))
                    wanted[end++] = page;
            }
        }

        Interlocked.Add(ref _left, claimed - end);
        long newest = LastFault >> shift << shift;
        lock (_gate)
            order.WentAlong(newest, Math.Min(newest + (1L << shift), missing.Length) - 1);
        return end - claimed;
    }

    /// <summary>
    /// Claims wanted pages, at most <see cref="WantList.MaxPages"/> in the order of their faults, for the urgent connection: keeps those that were still
    /// unclaimed, sorts them, returns how many. Tells the order.
    /// </summary>
    public int ClaimWanted(Span<long> wanted)
    {
        int kept = 0;
        foreach (long page in wanted)
        {
            if (missing.AtomicClear(page))
                _faulted[kept++] = page;
        }

        if (kept == 0)
            return 0;
        Interlocked.Add(ref _left, -kept);
        LastFault = _faulted[kept - 1];
        lock (_gate)
        {
            foreach (long page in _faulted.AsSpan(0, kept))
                order.Faulted(page);
        }

        _faulted.AsSpan(0, kept).CopyTo(wanted);
        wanted[..kept].Sort();
        return kept;
    }

    private int Claim(Span<long> pages, bool hot)
    {
        int claimed;
        lock (_gate)
            claimed = hot ? order.ClaimHot(pages) : order.Claim(pages);
        Interlocked.Add(ref _left, -claimed);
        return claimed;
    }
}
