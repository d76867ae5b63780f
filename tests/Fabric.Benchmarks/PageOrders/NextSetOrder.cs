using Fabric.Core;
using Fabric.Migration.PageOrders;

namespace Fabric.Benchmarks.PageOrders;

/// <summary>What the pull phase used before there were variants, as a measure: one cursor that goes on behind the last fault, and a scan of the map for the next page.</summary>
internal sealed class NextSetOrder(PageBitmap remaining) : IPageOrder
{
    private long _pivot;

    public void Faulted(long page) => _pivot = page + 1;

    public void WentAlong(long first, long last) => _pivot = Math.Max(_pivot, last + 1);

    public int Claim(Span<long> pages)
    {
        int count = Take(pages);
        if (count > 0 || _pivot == 0)
            return count;
        _pivot = 0;
        return Take(pages);
    }

    public int ClaimHot(Span<long> pages) => 0;

    private int Take(Span<long> pages)
    {
        int count = 0;
        while (count < pages.Length)
        {
            long page = remaining.NextSet(_pivot);
            if (page < 0)
                break;
            if (remaining.AtomicClear(page))
                pages[count++] = page;
            _pivot = page + 1;
        }

        return count;
    }
}
