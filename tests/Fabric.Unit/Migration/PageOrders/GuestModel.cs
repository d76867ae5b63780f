using Fabric.Core;
using Fabric.Migration.PageOrders;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>
/// A guest in its pull phase, without chance or clock. The unit of time is that of one page on the link. The guest has processes with working sets of their own; one
/// processor runs those that wait for nothing in turn, each for a slice. A touch of a page that is not there is a network fault: the process waits, the request
/// takes half a round trip to the source, the page goes before all that is pushed. The push goes in chunks: a chunk is claimed when the link has nothing else to send, and is
/// there when its last page is.
/// </summary>
internal sealed class GuestModel(GuestModel.Setting setting, PageBitmap lacking, IPageOrder order)
{
    /// <param name="Pages">Of the VM.</param>
    /// <param name="Processes">How many.</param>
    /// <param name="WorkingSet">Pages of each process. Working sets lie in a row, from page <paramref name="First"/>.</param>
    /// <param name="TouchesPerTick">How many pages the processor can touch while one crosses the link.</param>
    /// <param name="Slice">Touches of one process before it is another's turn.</param>
    /// <param name="Access">The n-th page of a working set that is touched, by n and the working set's size.</param>
    internal sealed record Setting(int Pages, int Processes, int WorkingSet, int First, double TouchesPerTick, int Slice, Func<int, int, int> Access);

    private const int RoundTrip = 6;
    private const int Chunk = 64;

    private readonly bool[] _here = new bool[setting.Pages];
    private readonly int[] _done = new int[setting.Processes];
    private readonly long[] _waitsFor = Enumerable.Repeat(-1L, setting.Processes).ToArray();
    private readonly Queue<(long Due, long Page)> _requests = new();
    private readonly Queue<(long Due, long[] Pages)> _arriving = new();
    private readonly long[] _chunk = new long[Chunk];
    private int _chunkPages;
    private int _chunkSent;
    private long _crossed;

    /// <summary>Runs until every page is there. Every page crosses once, or this throws.</summary>
    public long CountNetworkFaults()
    {
        for (long page = 0; page < setting.Pages; page++)
            _here[page] = !lacking[page];
        long toCross = lacking.CountSet();
        long faults = 0;
        double touches = 0;
        int running = 0;
        int ofSlice = 0;
        for (long now = 0; _crossed < toCross; now++)
        {
            while (_arriving.TryPeek(out var first) && first.Due <= now)
                Arrive(_arriving.Dequeue().Pages);
            Send(now);
            for (touches += setting.TouchesPerTick; touches >= 1; touches--)
            {
                int tries = 0;
                while (ofSlice == 0 || _waitsFor[running] >= 0)
                {
                    if (tries++ > setting.Processes)
                        break;
                    running = (running + 1) % setting.Processes;
                    ofSlice = setting.Slice;
                }

                if (_waitsFor[running] >= 0)
                    break; // all wait
                long page = setting.First + ((long)running * setting.WorkingSet) + setting.Access(_done[running] % setting.WorkingSet, setting.WorkingSet);
                if (_here[page])
                {
                    _done[running]++;
                    ofSlice--;
                    continue;
                }

                faults++;
                _waitsFor[running] = page;
                _requests.Enqueue((now + (RoundTrip / 2), page));
            }

            touches = Math.Min(touches, 1);
        }

        return faults;
    }

    private void Arrive(long[] pages)
    {
        foreach (long page in pages)
        {
            if (_here[page])
                throw new InvalidOperationException($"Page {page} crossed twice.");
            _here[page] = true;
            _crossed++;
            for (int process = 0; process < _waitsFor.Length; process++)
            {
                if (_waitsFor[process] == page)
                    _waitsFor[process] = -1;
            }
        }
    }

    // One page: a wanted one, or the next of the chunk at hand.
    private void Send(long now)
    {
        while (_requests.TryPeek(out var first) && first.Due <= now)
        {
            long page = _requests.Dequeue().Page;
            if (!lacking.AtomicClear(page))
                continue; // on its way already
            order.Faulted(page);
            _arriving.Enqueue((now + (RoundTrip / 2), [page]));
            return;
        }

        if (_chunkSent == _chunkPages)
        {
            _chunkSent = 0;
            _chunkPages = order.Claim(_chunk);
            if (_chunkPages == 0)
                return;
        }

        if (++_chunkSent == _chunkPages)
            _arriving.Enqueue((now + (RoundTrip / 2), _chunk[.._chunkPages]));
    }
}
