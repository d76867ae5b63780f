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

    /// <summary>
    /// The most recent page that may still be left, or -1. Each is given out once. The two indexes leap over each other's holes: a step per page that is left at most,
    /// however many of the recent pages were sent already.
    /// </summary>
    public long Next(PageIndex left)
    {
        while (HasMore)
        {
            long page = _maps[_map].Next(_next);
            long there = page < 0 ? -1 : left.Next(page);
            if (there < 0)
            {
                _map++;
                _next = 0;
                continue;
            }

            _next = there;
            if (there != page)
                continue;
            _next++;
            return page;
        }

        return -1;
    }
}
