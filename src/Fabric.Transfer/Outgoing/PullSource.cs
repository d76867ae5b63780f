using Fabric.Core;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// What the destination still lacks. A page is claimed, atomically, by whoever is about to send it: one bulk sender or the urgent one; whoever
/// comes second does not send it. So each page crosses at most once. All members: any thread.
/// </summary>
internal sealed class PullSource(PageBitmap missing, IPageOrder order)
{
    private readonly Lock _gate = new();
    private long _left = missing.CountSet();

    /// <summary>Pages that nobody claimed yet.</summary>
    public long Left => Volatile.Read(ref _left);

    /// <summary>
    /// Claims the next pages for bulk, ascending from the front of <paramref name="pages"/>. Returns how many; 0 when others were faster with
    /// all of those chosen (ask again); −1 when nothing is left.
    /// </summary>
    public int Claim(Span<long> pages)
    {
        lock (_gate)
        {
            int chosen = order.Next(missing, pages);
            if (chosen == 0)
                return -1;
            int kept = 0;
            for (int i = 0; i < chosen; i++)
            {
                if (missing.AtomicClear(pages[i]))
                    pages[kept++] = pages[i];
            }

            Interlocked.Add(ref _left, -kept);
            return kept;
        }
    }

    /// <summary>
    /// Claims what is missing in the aligned blocks of 2^<paramref name="shift"/> pages around claimed pages; those come first in
    /// <paramref name="pages"/>, ascending. Returns how many were added behind them; the span is large enough for any.
    /// </summary>
    public int ClaimAround(Span<long> pages, int claimed, int shift)
    {
        int end = claimed;
        long done = -1;
        for (int i = 0; i < claimed; i++)
        {
            long block = pages[i] >> shift;
            if (block == done)
                continue;
            done = block;
            long last = Math.Min((block + 1) << shift, missing.Length);
            for (long page = block << shift; page < last && end < pages.Length; page++)
            {
                if (missing.AtomicClear(page))
                    pages[end++] = page;
            }
        }

        Interlocked.Add(ref _left, claimed - end);
        return end - claimed;
    }

    /// <summary>
    /// Claims wanted pages for the urgent connection: sorts them, keeps those that were still unclaimed, returns how many. Tells the order.
    /// </summary>
    public int ClaimWanted(Span<long> pages)
    {
        long last = pages[^1];
        pages.Sort();
        int kept = 0;
        foreach (long page in pages)
        {
            if (missing.AtomicClear(page))
                pages[kept++] = page;
        }

        Interlocked.Add(ref _left, -kept);
        lock (_gate)
            order.Faulted(last);
        return kept;
    }
}
