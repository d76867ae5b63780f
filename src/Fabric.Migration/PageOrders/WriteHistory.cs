using Fabric.Core;

namespace Fabric.Migration.PageOrders;

/// <summary>
/// Which pages the last few dirty scans found: as many maps as there are generations, one bit per page and generation, in place of an entry with a time per
/// page (which would be 8 GiB for 2^30 pages; four generations are 512 MiB). One caller at a time.
/// </summary>
public sealed class WriteHistory
{
    /// <summary>How many scans are remembered.</summary>
    public const int Generations = 4;

    private readonly PageBitmap[] _ring = new PageBitmap[Generations];
    private int _newest = -1;
    private int _count;

    /// <param name="length">Number of pages, 0 to 2^36.</param>
    public WriteHistory(long length)
    {
        for (int i = 0; i < Generations; i++)
            _ring[i] = new PageBitmap(length);
    }

    /// <summary>Begins a generation and returns its map, empty; the oldest is forgotten for it. The caller adds what its scan finds.</summary>
    public PageBitmap Begin()
    {
        _newest = (_newest + 1) % Generations;
        _count = Math.Min(_count + 1, Generations);
        _ring[_newest].Clear();
        return _ring[_newest];
    }

    /// <summary>The generation that was begun last, to be added to; the first one is begun where there is none.</summary>
    public PageBitmap Latest() => _count == 0 ? Begin() : _ring[_newest];

    /// <summary>The generations, the newest first.</summary>
    public IReadOnlyList<PageBitmap> NewestFirst() => [.. Enumerable.Range(0, _count).Select(age => _ring[(_newest + Generations - age) % Generations])];
}
