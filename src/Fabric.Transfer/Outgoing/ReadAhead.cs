namespace Fabric.Transfer.Outgoing;

/// <summary>
/// How many pages go right behind a wanted one, on the same connection. A guest that goes over its memory in order would otherwise ask for each page by itself until the bulk senders come to the place: a
/// fault brings few pages, the next fault of the same walk twice as many as the one before (as the read-ahead of files does it), up to a bound. Several walks are followed at a time, each in its
/// direction; the one that was not seen for longest makes room. The urgent thread's alone.
/// </summary>
internal sealed class ReadAhead
{
    /// <summary>Behind a fault that continues nothing: its neighbours are cheap, and most faults are not alone.</summary>
    public const int Least = 4;

    /// <summary>Two milliseconds at 1 Gb/s. What comes meanwhile waits no longer than for a piece of it: see the urgent loop.</summary>
    public const int Most = 64;

    /// <summary>A fault so many pages beyond what a walk has been given continues it: what lies between was sent by others.</summary>
    private const int Gap = 64;

    private readonly Walk[] _walks = new Walk[8];
    private long _clock;
    private int _current;

    /// <summary>The page that the walk at hand comes to next. Moved on by whoever claims on its way.</summary>
    public ref long Next => ref _walks[_current].Next;

    public bool IsForward => !_walks[_current].Backward;

    /// <summary>The guest waited for this page: the walk that it belongs to is the one at hand. Returns how many pages to send behind it.</summary>
    public int Begin(long page)
    {
        int oldest = 0;
        for (int i = 0; i < _walks.Length; i++)
        {
            ref Walk walk = ref _walks[i];
            if (walk.Window > 0 && Math.Abs(page - walk.Next) <= Gap)
            {
                // A walk that begins by going back is known by its second fault, which lies below its first.
                walk.Backward = walk.Backward ? page <= walk.From : page < walk.From;
                walk.Window = Math.Min(2 * walk.Window, Most);
                return Follow(i, page);
            }

            if (walk.Seen < _walks[oldest].Seen)
                oldest = i;
        }

        _walks[oldest] = new Walk { Window = Least };
        return Follow(oldest, page);
    }

    private int Follow(int at, long page)
    {
        _current = at;
        ref Walk walk = ref _walks[at];
        walk.From = page;
        walk.Next = walk.Backward ? page - 1 : page + 1;
        walk.Seen = ++_clock;
        return walk.Window;
    }

    private struct Walk
    {
        /// <summary>Its last fault.</summary>
        public long From;

        public long Next;
        public long Seen;
        public int Window;
        public bool Backward;
    }
}
