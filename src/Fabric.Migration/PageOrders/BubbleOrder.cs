// The order in which post-copy pushes pages: adaptive pre-paging with bubbles, after
// M. R. Hines, U. Deshpande, K. Gopalan, "Post-copy live migration of virtual machines", VEE'09 and OSR'09, section 3.2.
//
// The guest runs at the destination, and each page that it touches too early costs it a network fault. A fault's page is sent at once, and tells where the
// guest works: it becomes a pivot. The push goes on outward from the pivots; what was pushed around a pivot is its bubble, and a bubble has two edges (one,
// if only the forward direction is pushed).
//
//                      backward edge        forward edge
//                               ◀───┐      ┌───▶
//   page 0 ██████▶··········░░░◀█████P3██████▶······▶|◀███P2████▶··········██P1██▶······  last page
//          pivot 0                                  both edges closed: they met
//          (where the push began)
//     █ sent   · lacking   ░ never lacked (a hole, or there already)   P pivot
//
//   push-only       no pivots: address order from page 0; faults do not move it.
//   forward, dual   one pivot, the newest fault. Its edges go over what was sent, to the ends of memory.
//   multi-pivot     the k newest pivots live, the oldest makes room. The push begins as a bubble around page 0. An edge that comes to a page that was sent
//                   (by another bubble, living or not, or for a fault) closes; so does one at the end of memory. Pages that never were lacking are gone over.
//   all             when every edge is closed the rest goes in address order: the lowest page that is left.
//
// Turns. The open edges have turns, one after the other, in the order of their places in the ring of pivots (forward before backward). A turn is some
// pages of one edge, not one page as in the paper: neighbours then travel in one frame and are installed with one call. A new pivot ends the
// turn at hand, and its forward edge is the next edge to have one; after that the round goes on where it was.
//
// Recency. Pages that are known to be hot, and in the LRU variants those that the last dirty scans found, wait in maps, the most recent first. While there
// are any, every other turn is theirs, all turns while no edge is open. So they go first as long as nothing faults, and then share the link
// with the pivots evenly: neither a wrong guess nor a large hot set keeps the neighbours of a fault waiting. What was sent so is gone over by
// edges: it says nothing about where another bubble has been.
//
// Cost. No page is visited twice by one edge, and holes and sent regions are stepped over by a PageIndex: a constant number of steps per page chosen,
// plus one look at up to 2k edges per turn. Besides the map itself: one more map for the multi-pivot variants, and the marks (2.1 MiB for each at 2^30 pages).
using Fabric.Core;

namespace Fabric.Migration.PageOrders;

/// <summary>Which variant. <paramref name="Pivots"/>: alive at a time, 0 for none. <paramref name="Dual"/>: backward edges too. <paramref name="StopsAtSent"/>: the multi-pivot rule.</summary>
internal readonly record struct BubbleShape(int Pivots, bool Dual, bool StopsAtSent)
{
    public static BubbleShape PushOnly => new(0, false, false);

    public static BubbleShape SinglePivot(bool dual) => new(1, dual, false);

    public static BubbleShape MultiPivot(bool dual, int pivots) => new(pivots, dual, true);
}

/// <summary>All variants of the order. See the top of this file.</summary>
internal sealed class BubbleOrder : IPageOrder
{
    /// <summary>Pages of a turn: 64 KiB, half a millisecond at 1 Gb/s, so that 14 edges have had theirs within 8 ms.</summary>
    public const int DefaultTurn = 16;

    private const int Rest = -1;
    private const int Recent = -2;
    private const int NoEdge = -3;

    private readonly PageBitmap _remaining;
    private readonly BubbleShape _shape;
    private readonly int _turnPages;
    private readonly PageIndex _left;
    private readonly RecentPages _recent;

    // Multi-pivot only: what was lacking when the push began, less what went for its recency. A page in here that remains no more was sent.
    private readonly PageBitmap? _lacked;
    private readonly PageIndex? _lackedIndex;

    // The edges of pivot p are at p × edges per pivot; pivots are placed in turn, so the next place is the oldest's.
    private readonly Edge[] _edges;
    private readonly int _edgesPerPivot;
    private int _newest;
    private int _open;

    private int _lastEdge;
    private int _firstTurn = NoEdge;
    private int _turn = Rest;
    private int _turnLeft;
    private bool _recentHadTurn;
    private long _restFrom;

    /// <param name="spare">Overwritten and kept, if the shape needs it; null: made here.</param>
    /// <param name="turnPages">Pages of a turn, at least 1.</param>
    public BubbleOrder(PageBitmap remaining, BubbleShape shape, IReadOnlyList<PageBitmap> recent, PageBitmap? spare = null, int turnPages = DefaultTurn)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(shape.Pivots);
        ArgumentOutOfRangeException.ThrowIfLessThan(turnPages, 1);
        foreach (PageBitmap map in recent)
            ArgumentOutOfRangeException.ThrowIfNotEqual(map.Length, remaining.Length);
        (_remaining, _shape, _turnPages) = (remaining, shape, turnPages);
        _left = new PageIndex(remaining);
        _recent = new RecentPages(recent);
        _edgesPerPivot = shape.Dual ? 2 : 1;
        _edges = new Edge[shape.Pivots * _edgesPerPivot];
        _newest = shape.Pivots - 1;
        _lastEdge = _edges.Length - 1;
        if (!shape.StopsAtSent)
            return;
        _lacked = spare ?? new PageBitmap(remaining.Length);
        _lacked.CopyFrom(remaining);
        _lackedIndex = new PageIndex(_lacked, _left);
        // The push begins at page 0 as a bubble like the others. Not in an LRU variant or with hot pages: those say better where to begin.
        if (!_recent.HasMore)
            PlacePivot(-1);
    }

    public void Faulted(long page)
    {
        if ((ulong)page >= (ulong)_remaining.Length)
            throw new ArgumentOutOfRangeException(nameof(page), page, $"The map has {_remaining.Length} pages.");
        if (_edges.Length == 0)
            return;
        PlacePivot(page);
        _firstTurn = _newest * _edgesPerPivot;
        _turnLeft = 0;
    }

    public void WentAlong(long first, long last)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(last, _remaining.Length);
        if (_edges.Length == 0)
            return;
        int newest = _newest * _edgesPerPivot;
        if (last >= _edges[newest].Next)
            PlaceEdge(ref _edges[newest], last + 1, last + 1 < _remaining.Length);
        if (_shape.Dual && first <= _edges[newest + 1].Next)
            PlaceEdge(ref _edges[newest + 1], first - 1, first > 0);
    }

    public int Claim(Span<long> pages)
    {
        int count = 0;
        bool ascending = true;
        while (count < pages.Length)
        {
            if (_turnLeft == 0)
                BeginTurn();
            Span<long> room = pages.Slice(count, Math.Min(pages.Length - count, _turnLeft));
            int taken = _turn switch
            {
                Rest => TakeRest(room),
                Recent => TakeRecent(room),
                _ => TakeAtEdge(ref _edges[_turn], room),
            };
            ascending &= taken == 0 || (!IsBackward(_turn) && (count == 0 || pages[count - 1] < room[0]) && _turn != Recent);
            count += taken;
            _turnLeft = taken < room.Length ? 0 : _turnLeft - taken;
            if (taken > 0)
                _recentHadTurn = _turn == Recent;
            else if (_turn == Rest)
                break; // no edge was open and nothing recent was left either
        }

        if (!ascending)
            pages[..count].Sort();
        return count;
    }

    public int ClaimHot(Span<long> pages)
    {
        int count = TakeRecent(pages);
        pages[..count].Sort(); // of several maps
        return count;
    }

    private bool IsBackward(int turn) => _shape.Dual && turn > 0 && (turn & 1) == 1;

    private void PlacePivot(long page)
    {
        _newest = (_newest + 1) % _shape.Pivots;
        int first = _newest * _edgesPerPivot;
        PlaceEdge(ref _edges[first], page + 1, page + 1 < _remaining.Length);
        if (_shape.Dual)
            PlaceEdge(ref _edges[first + 1], page - 1, page > 0);
    }

    private void PlaceEdge(ref Edge edge, long next, bool open)
    {
        _open += (open ? 1 : 0) - (edge.Open ? 1 : 0);
        edge = new Edge { Next = next, Open = open };
    }

    private void BeginTurn()
    {
        _turnLeft = _turnPages;
        if (_recent.HasMore && (_open == 0 || !_recentHadTurn))
            _turn = Recent;
        else
            _turn = _open == 0 ? Rest : NextEdge();
    }

    private int NextEdge()
    {
        int first = _firstTurn;
        _firstTurn = NoEdge;
        if (first != NoEdge && _edges[first].Open)
            return first;
        do
            _lastEdge = _lastEdge + 1 == _edges.Length ? 0 : _lastEdge + 1;
        while (!_edges[_lastEdge].Open);
        return _lastEdge;
    }

    private int TakeAtEdge(ref Edge edge, Span<long> pages)
    {
        PageIndex candidates = _lackedIndex ?? _left;
        bool backward = IsBackward(_turn);
        int count = 0;
        while (count < pages.Length)
        {
            long page = backward ? candidates.Previous(edge.Next) : candidates.Next(edge.Next);
            bool claimed = page >= 0 && _remaining.AtomicClear(page);
            if (page < 0 || (!claimed && _shape.StopsAtSent))
            {
                edge.Open = false;
                _open--;
                break;
            }

            edge.Next = backward ? page - 1 : page + 1;
            if (claimed)
                pages[count++] = page;
        }

        return count;
    }

    private int TakeRecent(Span<long> pages)
    {
        int count = 0;
        while (count < pages.Length)
        {
            long page = _recent.Next(_left);
            if (page < 0)
                break;
            if (!_remaining.AtomicClear(page))
                continue;
            pages[count++] = page;
            if (_lacked is not null)
                _lacked[page] = false;
        }

        return count;
    }

    private int TakeRest(Span<long> pages)
    {
        int count = 0;
        while (count < pages.Length)
        {
            long page = _left.Next(_restFrom);
            if (page < 0)
                break;
            _restFrom = page + 1; // pages only go, so none is left below
            if (_remaining.AtomicClear(page))
                pages[count++] = page;
        }

        return count;
    }

    private struct Edge
    {
        /// <summary>Where it looks next: at or above it going forward, at or below it going backward.</summary>
        public long Next;

        public bool Open;
    }
}
