using Fabric.Core;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// A push round: the pages of a bitmap, then zero runs for pages that the destination holds and that are holes here by now.
/// Every sender takes the next chunk from one shared cursor; behind it the bitmap is still the flow's to change, under the gate.
/// <para>
/// A job may be given while its pages are still being looked for, from the first on: what a sender takes then lies before the place that was <see cref="Reached"/>, and whoever looks sets bits only from there on.
/// A sender that has come that far waits; <see cref="Complete"/> lets it go in any case.
/// </para>
/// </summary>
/// <param name="pages">What to send.</param>
/// <param name="count">How many; null: they are still being looked for.</param>
/// <param name="keeps">Whether what is sent is kept, where there is room, for the difference to what will be sent.</param>
internal sealed class PushJob(PageBitmap pages, long? count, PageBitmap? holes, PageBitmap atDestination, int chunkPages, PageFlags flags, ulong round, bool keeps) : BulkJob
{
    private readonly object _gate = new();
    private long _left = count ?? 0; // below 0 while the pages are being looked for
    private long _reached = count is null ? 0 : long.MaxValue;
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

    /// <summary>The pages before this one are known from now on.</summary>
    /// <param name="page">A multiple of 64, so that no word of the bitmap is written and read at the same time; or the end.</param>
    public void Reached(long page)
    {
        lock (_gate)
        {
            _reached = page;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>No page is looked for any more.</summary>
    /// <param name="found">How many were.</param>
    public void Complete(long found)
    {
        lock (_gate)
        {
            _left += found;
            Reached(long.MaxValue);
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
            int taken;
            while ((taken = Take(pages, ref _next, _reached, chunk)) == 0 && _next >= 0)
                Monitor.Wait(_gate);
            _left -= taken;
            return taken;
        }
    }

    private int TakeHoles(PageBitmap from, long[] chunk)
    {
        lock (_gate)
            return Take(from, ref _nextHole, long.MaxValue, chunk);
    }

    // The cursor is -1 when nothing is left, and at the limit when nothing is left before that.
    private int Take(PageBitmap from, ref long cursor, long limit, long[] chunk)
    {
        int taken = 0;
        while (taken < chunkPages && cursor >= 0 && cursor < limit)
        {
            long page = from.NextSet(cursor, limit);
            bool found = page >= 0;
            if (found)
                chunk[taken++] = page;
            cursor = found ? page + 1 : limit == long.MaxValue ? -1 : limit;
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
