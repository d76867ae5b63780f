using Fabric.Core;

namespace Fabric.Migration.PageOrders;

/// <summary>
/// Pages that are likely to be wanted before anybody asked for them: those that the source knows to be hot, then what was written most recently, then what
/// was written before. One map for each step; within a map the addresses ascend. Each map is gone through once.
/// </summary>
internal sealed class RecentPages
{
    private readonly PageIndex[] _maps;
    private int _map;
    private long _next;

    /// <param name="maps">The most recent first. A page may be in several; the first counts. Read, never written.</param>
    public RecentPages(IReadOnlyList<PageBitmap> maps) => _maps = [.. maps.Where(map => !map.IsEmpty).Select(map => new PageIndex(map))];

    /// <summary>False: gone through.</summary>
    public bool HasMore => _map < _maps.Length;

    /// <summary>The most recent page that may still be in <paramref name="remaining"/>, or -1. Each is given out once.</summary>
    public long Next(PageBitmap remaining)
    {
        while (HasMore)
        {
            long page = _maps[_map].Next(_next);
            if (page < 0)
            {
                _map++;
                _next = 0;
                continue;
            }

            _next = page + 1;
            if (remaining[page])
                return page;
        }

        return -1;
    }
}
