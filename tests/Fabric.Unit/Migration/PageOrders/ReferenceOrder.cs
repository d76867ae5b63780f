using Fabric.Migration.PageOrders;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>
/// The page order page by page, from the paper's words ("each bubble expands around an independent pivot; if the edge of a bubble comes across a page that is
/// already transmitted, that edge stops progressing in the corresponding direction; the oldest pivot is replaced") and our rules for turns and recency. Slow: it looks
/// at one page after another, keeps everything in lists, and shares nothing with the order that it is compared with.
/// </summary>
internal sealed class ReferenceOrder
{
    private enum Page
    {
        NeverLacked,
        Lacking,
        Sent,
    }

    private readonly Page[] _pages;
    private readonly List<List<int>> _recent;
    private readonly BubbleShape _shape;
    private readonly int _turnPages;
    private readonly Edge?[] _ring; // forward and, if dual, backward edge of each place
    private int _pivots;
    private int _roundAt = -1;
    private Edge? _first;
    private Func<int?>? _turn;
    private int _turnLeft;
    private bool _recentWasLast;

    public ReferenceOrder(IEnumerable<bool> lacking, BubbleShape shape, List<List<int>> recent, int turnPages)
    {
        _pages = [.. lacking.Select(l => l ? Page.Lacking : Page.NeverLacked)];
        (_shape, _recent, _turnPages) = (shape, recent, turnPages);
        _ring = new Edge?[shape.Pivots * Directions];
        if (shape.StopsAtSent && recent.TrueForAll(map => map.Count == 0))
            NewPivot(-1);
    }

    public bool IsLacking(int page) => _pages[page] == Page.Lacking;

    /// <summary>Sent by somebody else.</summary>
    public void Sent(int page) => _pages[page] = Page.Sent;

    public void Faulted(int page)
    {
        if (_shape.Pivots == 0)
            return;
        _first = NewPivot(page);
        _turn = null;
    }

    public List<long> Claim(int most)
    {
        List<long> chunk = [];
        while (chunk.Count < most && NextPage() is { } page)
            chunk.Add(page);
        chunk.Sort();
        return chunk;
    }

    private int Directions => _shape.Dual ? 2 : 1;

    private Edge NewPivot(int page)
    {
        int place = _pivots++ % _shape.Pivots * Directions;
        _ring[place] = new Edge(page, 1);
        if (_shape.Dual)
            _ring[place + 1] = new Edge(page, -1);
        return _ring[place]!;
    }

    private int? NextPage()
    {
        if (_turn is not null && _turnLeft > 0 && _turn() is { } more)
        {
            _turnLeft--;
            return more;
        }

        _turnLeft = _turnPages - 1;
        if (_recentWasLast && EdgeTurn() is { } edgePage)
            return edgePage;
        _turn = TakeRecent;
        if (TakeRecent() is { } recentPage)
        {
            _recentWasLast = true;
            return recentPage;
        }

        if (EdgeTurn() is { } page)
            return page;
        _turn = TakeLowest;
        return TakeLowest();
    }

    private int? EdgeTurn()
    {
        for (int tries = 0; tries <= _ring.Length; tries++)
        {
            Edge? edge = _first;
            _first = null;
            if (edge is null && _ring.Length > 0)
            {
                // An edge that can go no further is not in the round: the place is passed by.
                int tried = 0;
                do
                    _roundAt = (_roundAt + 1) % _ring.Length;
                while ((_ring[_roundAt] is null || _ring[_roundAt]!.Closed) && ++tried < _ring.Length);
                edge = _ring[_roundAt];
            }

            if (edge is { Closed: false } && TakeAt(edge) is { } page)
            {
                _turn = () => TakeAt(edge);
                _recentWasLast = false;
                return page;
            }
        }

        return null;
    }

    private int? TakeAt(Edge edge)
    {
        while (!edge.Closed)
        {
            int page = edge.Pivot + edge.Direction * edge.Distance;
            if (page < 0 || page >= _pages.Length || (_pages[page] == Page.Sent && _shape.StopsAtSent))
            {
                edge.Closed = true;
                return null;
            }

            edge.Distance++;
            if (_pages[page] == Page.Lacking)
            {
                _pages[page] = Page.Sent;
                return page;
            }
        }

        return null;
    }

    private int? TakeRecent()
    {
        foreach (int page in _recent.SelectMany(map => map))
        {
            if (_pages[page] == Page.Lacking)
            {
                // To an edge it looks as if it had never been lacking.
                _pages[page] = Page.NeverLacked;
                return page;
            }
        }

        return null;
    }

    private int? TakeLowest()
    {
        int page = Array.IndexOf(_pages, Page.Lacking);
        if (page < 0)
            return null;
        _pages[page] = Page.Sent;
        _recentWasLast = false;
        return page;
    }

    private sealed class Edge(int pivot, int direction)
    {
        public int Pivot { get; } = pivot;

        public int Direction { get; } = direction;

        public int Distance { get; set; } = 1;

        public bool Closed { get; set; }
    }
}
