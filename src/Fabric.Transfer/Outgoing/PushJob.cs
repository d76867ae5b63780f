using Fabric.Core;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// A push round: the pages of a bitmap, then zero runs for pages that the destination holds and that are holes here by now.
/// Every sender takes the next chunk from one shared cursor; behind it the bitmap is still the flow's to change, under the gate.
/// </summary>
/// <param name="pages">What to send; <paramref name="count"/> of them.</param>
/// <param name="keeps">Whether what is sent is kept, where there is room, for the difference to what will be sent.</param>
internal sealed class PushJob(PageBitmap pages, long count, PageBitmap? holes, PageBitmap atDestination, int chunkPages, PageFlags flags, ulong round, bool keeps) : BulkJob
{
    private readonly Lock _gate = new();
    private long _left = count;
    private long _next;
    private long _nextHole;

    /// <summary>Pages that no sender has taken yet.</summary>
    public long Left
    {
        get
        {
            lock (_gate)
                return _left;
        }
    }

    public override void Run(PageSender sender)
    {
        int taken;
        while ((taken = TakePages(sender.Chunk)) > 0)
        {
            sender.SendPages(taken, flags, round, keeps);
            Note(sender.Sent);
        }

        while (holes is not null && (taken = TakeHoles(holes, sender.Chunk)) > 0)
        {
            sender.SendZeros(taken, flags, round);
            Note(sender.Sent);
        }
    }

    /// <summary>
    /// Takes in what a scan has just found. A page whose turn is still to come will be read after this scan, which armed it again, so its write needs no second sending:
    /// it does not become dirty. If it is in <paramref name="hot"/> it loses its turn instead and stays dirty. All else becomes dirty.
    /// </summary>
    public void Found(PageBitmap written, PageBitmap? hot, PageBitmap dirty)
    {
        lock (_gate)
        {
            for (long page = written.NextSet(0); page >= 0; page = written.NextSet(page + 1))
            {
                bool toCome = _next >= 0 && page >= _next && pages[page];
                if (toCome && hot?[page] != true)
                    continue;
                if (toCome)
                {
                    pages[page] = false;
                    _left--;
                }

                dirty[page] = true;
            }
        }
    }

    /// <summary>No chunk is taken any more; what was still to come becomes dirty.</summary>
    public void BreakOff(PageBitmap dirty)
    {
        lock (_gate)
        {
            for (long page = pages.NextSet(_next); page >= 0; page = pages.NextSet(page + 1))
                dirty[page] = true;
            (_next, _nextHole, _left) = (-1, -1, 0);
        }
    }

    /// <summary>Takes the next pages for a sender; how many.</summary>
    internal int TakePages(long[] chunk)
    {
        lock (_gate)
        {
            int taken = Take(pages, ref _next, chunk);
            _left -= taken;
            return taken;
        }
    }

    private int TakeHoles(PageBitmap from, long[] chunk)
    {
        lock (_gate)
            return Take(from, ref _nextHole, chunk);
    }

    private int Take(PageBitmap from, ref long cursor, long[] chunk)
    {
        int taken = 0;
        while (taken < chunkPages && cursor >= 0)
        {
            cursor = from.NextSet(cursor);
            if (cursor < 0)
                break;
            chunk[taken++] = cursor++;
        }

        return taken;
    }

    private void Note(PageTableBuilder sent)
    {
        lock (_gate)
        {
            for (int i = 0; i < sent.Runs; i++)
            {
                PageRun run = sent.Run(i, out bool zero);
                if (zero)
                    atDestination.ClearRun(run);
                else
                    atDestination.SetRun(run);
            }
        }
    }
}
