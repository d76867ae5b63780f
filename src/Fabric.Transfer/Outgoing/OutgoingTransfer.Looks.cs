using Fabric.Core;

namespace Fabric.Transfer.Outgoing;

// A long round is looked at while the senders work on it: which pages the guest writes, how fast the wire is, and whether the round is worth its end.
public sealed partial class OutgoingTransfer
{
    /// <summary>A round that is expected to take less than this holds nothing back: it may well be faster than the guest comes round to its hot pages again.</summary>
    private static readonly TimeSpan ShortRound = 2 * DirtyWindows.Least;

    /// <summary>
    /// A round sends at least what the wire is expected to carry in this time, and enough to measure it, hot or not: otherwise a wire that was slow for a moment would count as slow for as long as all
    /// that is left is hot.
    /// </summary>
    private static readonly TimeSpan SampleTime = TimeSpan.FromMilliseconds(100);

    // The stretch of time and bytes since the wire was last measured.
    private long _stretchBegan;
    private long _stretchBytes;
    private long _stretchPages;

    private bool _holdsBack;

    // Four maps that a transfer without a push never needs.
    private PageBitmap Found => field ??= new PageBitmap(_memory.PageCount);

    private DirtyWindows Windows => field ??= new DirtyWindows(_memory.PageCount, _time);

    /// <summary>Takes hot pages out of the round; they stay, or become, dirty. How many.</summary>
    private long HoldBack()
    {
        long pages = _sending.CountSet();
        double seconds = _carried.Rate > 0 ? pages * _memory.PageSize / _carried.Rate : 0;
        // Nothing is known before the first round, and all of it has to go.
        _holdsBack = _round == 0 || seconds > ShortRound.TotalSeconds;
        if (_round == 0 || !_holdsBack || Windows.HotPages == 0)
            return 0;
        Found.CopyFrom(_sending);
        Found.And(Windows.Hot);
        long held = Found.CountSet();
        long sample = Math.Max((long)(_carried.Rate * SampleTime.TotalSeconds), 2 * WireMeter.Measurable) / _memory.PageSize;
        held -= TakeSample(Found, sample - (pages - held));
        _sending.AndNot(Found);
        _dirty.Or(Found);
        return held;
    }

    private static long TakeSample(PageBitmap held, long pages)
    {
        long taken = 0;
        for (long page = 0; taken < pages && held.TryNextRun(page, (int)Math.Min(pages - taken, int.MaxValue), out PageRun run); page = run.End)
        {
            held.ClearRun(run);
            taken += run.Count;
        }

        return taken;
    }

    /// <summary>
    /// A round that holds back what it has to send would be over at once, and the next one would know no better: which pages are hot now, perhaps of a guest that has just been slowed, is known
    /// after two windows. Nothing is sent meanwhile, so the wire is not measured.
    /// </summary>
    /// <param name="windows">How many windows had ended when the round began.</param>
    private async Task LingerAsync(PushJob job, long windows, CancellationToken cancellation)
    {
        while (Windows.Ended < windows + 2)
        {
            await Task.Delay(Windows.Pause, _time, cancellation);
            _life.ThrowIfOver();
            await Task.Run(() => FindWrites(job), cancellation);
        }
    }

    private async Task LookUntilAsync(Task done, PushJob job, Func<PushLook, bool> goesOn, CancellationToken cancellation)
    {
        while (!await EndsWithinAsync(done, Windows.Pause, cancellation))
        {
            PushLook look = await Task.Run(() => Look(job), cancellation);
            if (goesOn(look))
                continue;
            job.BreakOff(_dirty);
            break;
        }

        await done;
    }

    private async Task<bool> EndsWithinAsync(Task done, TimeSpan pause, CancellationToken cancellation)
    {
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        await Task.WhenAny(done, Task.Delay(pause, _time, enough.Token));
        await enough.CancelAsync();
        return done.IsCompleted;
    }

    private PushLook Look(PushJob job)
    {
        EndStretch();
        FindWrites(job);
        BeginStretch();
        return LookNow(job.Left, _dirty.CountSet());
    }

    private void FindWrites(PushJob job)
    {
        if (ScanWrites() == 0)
            return;
        job.Found(Found, _holdsBack ? Windows.Hot : null, _dirty);
        // No generation of its own: what the order wants to remember is rounds.
        _history?.Latest().Or(Found);
    }

    private PushLook LookNow(long left, long dirty) =>
        _lastLook = new PushLook(_counters.DataPages + _counters.ZeroPages, left, dirty, Windows.HotPages, Windows.FreshPagesPerSecond, _carried.Rate, _firstPages, Windows.WrittenPages, _wire.Rate);

    /// <summary>Scans into <see cref="Found"/>, which is emptied first; how many pages were found.</summary>
    private long ScanWrites()
    {
        Found.Clear();
        long began = _time.GetTimestamp();
        long pages = Tracking.Scan(Found);
        Windows.Add(Found, _time.GetElapsedTime(began));
        return pages;
    }

    private void BeginStretch() => (_stretchBegan, _stretchBytes, _stretchPages) = (_time.GetTimestamp(), BulkBytes(), _counters.DataPages);

    private void EndStretch()
    {
        TimeSpan stretch = _time.GetElapsedTime(_stretchBegan);
        _wire.Add(BulkBytes() - _stretchBytes, stretch);
        _carried.Add((_counters.DataPages - _stretchPages) * _memory.PageSize, stretch);
    }
}
