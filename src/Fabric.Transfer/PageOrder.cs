using Fabric.Core;

namespace Fabric.Transfer;

/// <summary>
/// In which order the source pushes what the destination still lacks. Called under one lock; an implementation needs none of its own and must not
/// allocate per call.
/// </summary>
public interface IPageOrder
{
    /// <summary>The guest waited for this page: what follows may want its neighbours next.</summary>
    void Faulted(long page);

    /// <summary>Chooses pages that are set in <paramref name="remaining"/>, ascending, at most as many as fit; 0 only if none is left.</summary>
    int Next(PageBitmap remaining, Span<long> pages);
}

/// <summary>Address order, going on behind the page that was faulted last, and around.</summary>
public sealed class ForwardPivotOrder : IPageOrder
{
    private long _pivot;

    public void Faulted(long page) => _pivot = page + 1;

    public int Next(PageBitmap remaining, Span<long> pages)
    {
        ArgumentNullException.ThrowIfNull(remaining);
        int count = Take(remaining, pages);
        if (count > 0 || _pivot == 0)
            return count;
        _pivot = 0;
        return Take(remaining, pages);
    }

    private int Take(PageBitmap remaining, Span<long> pages)
    {
        int count = 0;
        while (count < pages.Length)
        {
            long page = remaining.NextSet(_pivot);
            if (page < 0)
                break;
            pages[count++] = page;
            _pivot = page + 1;
        }

        return count;
    }
}
