using Fabric.Core;
using Fabric.Migration.PageOrders;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// What the destination still lacks. A page is claimed, atomically, by whoever is about to send it: one bulk sender or the urgent one; whoever
/// comes second does not send it. So each page crosses at most once. <see cref="ClaimWanted"/> and <see cref="ClaimAround"/>: the urgent thread alone; all
/// else: any thread.
/// </summary>
/// <param name="missing">What the destination lacks; <paramref name="order"/> was made for the same map.</param>
/// <param name="pages">How many that are.</param>
internal sealed class PullSource(PageBitmap missing, long pages, IPageOrder order)
{
    private readonly Lock _gate = new();
    private readonly long[] _faulted = new long[WantList.MaxPages];
    private long _left = pages;

    /// <summary>Pages that nobody claimed yet.</summary>
    public long Left => Volatile.Read(ref _left);

    /// <summary>Claims the next pages for bulk, ascending from the front of <paramref name="chunk"/>. Returns how many; 0 when nothing is left.</summary>
    public int Claim(Span<long> chunk)
    {
        int claimed;
        lock (_gate)
            claimed = order.Claim(chunk);
        Interlocked.Add(ref _left, -claimed);
        return claimed;
    }

    /// <summary>
    /// Claims what is missing in the aligned blocks of 2^<paramref name="shift"/> pages around claimed pages; those come first in
    /// <paramref name="wanted"/>, ascending. Returns how many were added behind them; the span is large enough for any.
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
        lock (_gate)
        {
            foreach (long page in _faulted.AsSpan(0, kept))
                order.Faulted(page);
        }

        _faulted.AsSpan(0, kept).CopyTo(wanted);
        wanted[..kept].Sort();
        return kept;
    }
}
