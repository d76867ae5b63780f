using Fabric.Core;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

// Post-copy without a push: what the guest uses is there before it is.
//
//   connecting     pages are taken out of the guest's page table, then its writes are recorded (GuestLook):
//                  what is in the table again was touched since, what was written is known besides
//   before the stop  touched and not written ── pushed, while the guest runs: it will not be stale, the guest needs it at once; looked at again and again
//                    the rest, not written   ── pushed between the looks, as far as the time goes: it would have to be pulled
//   stopped        what was written since it was pushed is missing like everything else; what was ever seen to be written is hot, and goes first: lone pages
//                  of it from when the device state is loaded, as if the guest had asked for them, the rest in bulk
//
// A page that is written all the time would be sent in vain, so it is not sent; large areas that a guest goes over are left to the read-ahead when time is
// short: lone pages, the kernel's and those of small processes, go first.
public sealed partial class OutgoingTransfer
{
    /// <summary>Between two looks at what the guest touched: some ticks of its clock, some turns of its scheduler.</summary>
    private static readonly TimeSpan LookAgain = TimeSpan.FromMilliseconds(25);

    /// <summary>Touched pages among 64 in a row up to which they count as lone ones.</summary>
    private const int LonePages = 24;

    /// <summary>Lone pages that are sent before the guest asks for them: 9 ms at 1 Gb/s. A guest has some 80; one that writes all over its memory has many more, and few of them are the kernel's.</summary>
    private const int MostHotAhead = 256;

    private GuestLook? _look; // begun by whoever made the connections, or when it is needed
    private bool _looked; // what it saw is in _present
    private Task? _ahead; // pushes from when the looking began; awaited before anything else is sent
    private PageBitmap? _written; // of a guest that was watched, from when that began
    private PageBitmap? _asked; // known at the last look: whose being written matters while the guest stands: what was pushed must not be stale, and what does not exist yet must not be missed. All else is missing anyway
    private PageBitmap? _chosen; // of its working set, each to be pushed once; pages of zeros as well, of which the destination keeps nothing

    // A page that is given back while the guest is looked at is sent as zeros.
    private async Task TakeLookAsync(CancellationToken cancellation)
    {
        _look ??= GuestLook.Begin(_memory, _readsAhead, _logger);
        bool watched = await _look.Begun.WaitAsync(cancellation);
        _tracking = _look.Tracking;
        _present.CopyFrom(_look.Present);
        _looked = true;
        if (watched)
            _ahead = PushAheadAsync(_life.Ended);
    }

    // From the begin of the looking: the order to hand over, some messages away, need not be waited for.
    private async Task PushAheadAsync(CancellationToken cancellation)
    {
        _written = new PageBitmap(_memory.PageCount);
        _chosen = new PageBitmap(_memory.PageCount);
        _dirty.Clear();
        _holes.Clear();
        _pushed = true;
        long began = _time.GetTimestamp();
        while (Left() > TimeSpan.Zero)
        {
            await LookAsync(Left(), cancellation);
            // What does not happen at every tick of the guest's clock is seen by a later look only. Until then goes what would have to be pulled.
            await Task.Run(ChooseRest, cancellation);
            if (_sending.IsEmpty)
                return;
            await PushWithinAsync(_sending, Left() < LookAgain ? Left() : LookAgain, cancellation);
        }

        TimeSpan Left() => _settings.WorkingSetTime - _time.GetElapsedTime(began);
    }

    // The last look, right before the stop; then what goes after it is known.
    private async Task EndAheadAsync(Task ahead, CancellationToken cancellation)
    {
        await ahead.WaitAsync(cancellation);
        _ahead = null;
        await LookAsync(LookAgain, cancellation);
        // Ahead of the barrier: at each one the destination begins to map what came, and would do so just when the guest stops.
        SendControl(FrameKind.Stopping);
        // The guest is not stopped while its pages stand in the way of what has to follow.
        await _life.WithinAsync(BarrierAsync(_barrier), _settings.AnswerDeadline, "The destination's confirmation of the working set", cancellation);
        // What was never chosen is missing; what no sender took, and what was written after it was pushed, is dirty already.
        _sending.CopyFrom(_present);
        _sending.AndNot(_chosen!);
        _dirty.Or(_sending);
        _asked = new PageBitmap(_memory.PageCount);
        _asked.SetAll();
        _asked.AndNot(_present);
        _asked.Or(_chosen!);
    }

    private async Task LookAsync(TimeSpan time, CancellationToken cancellation)
    {
        long began = _time.GetTimestamp();
        PageBitmap crowded = await Task.Run(ChooseWorkingSet, cancellation);
        await PushWithinAsync(_sending, time - _time.GetElapsedTime(began), cancellation);
        await PushWithinAsync(crowded, time - _time.GetElapsedTime(began), cancellation);
    }

    private async Task PushWithinAsync(PageBitmap pages, TimeSpan time, CancellationToken cancellation)
    {
        if (time <= TimeSpan.Zero || pages.IsEmpty)
            return;
        PushJob job = NewPush(pages, null, PageFlags.None);
        Task done = RunJobAsync(job, cancellation);
        _chosen!.Or(pages);
        if (!await EndsWithinAsync(done, time, cancellation))
        {
            var left = new PageBitmap(_memory.PageCount);
            job.BreakOff(left);
            _chosen.AndNot(left);
        }

        await done;
    }

    // What is neither known to be written nor gone yet, into _sending.
    private void ChooseRest()
    {
        _sending.CopyFrom(_present);
        _sending.AndNot(_written!);
        _sending.AndNot(_chosen!);
    }

    // Lone pages into _sending; returns the crowded ones. _dirty is what was written while the guest was watched, and keeps it: a page that was pushed and then written has to go again.
    private PageBitmap ChooseWorkingSet()
    {
        PageBitmap written = _written!;
        _sending.Clear();
        Tracking.Scan(_sending);
        written.Or(_sending);
        _history?.Latest().Or(_sending);
        _dirty.Or(_sending);
        _present.Or(_sending);
        _sending.Clear();
        _memory.ReadTouches(_sending);
        _sending.And(_present);
        _sending.AndNot(written);
        _sending.AndNot(_chosen!);
        var crowded = new PageBitmap(_memory.PageCount);
        crowded.CopyFrom(_sending);
        crowded.KeepCrowded(LonePages);
        _sending.AndNot(crowded);
        return crowded;
    }

    // What was written with few neighbours is the kernel's own and small processes': no read-ahead brings it, and the guest touches it in its first milliseconds.
    private PageBitmap FindLoneHot()
    {
        PageBitmap lone = _asked!; // free
        lone.CopyFrom(_hot!);
        lone.KeepLone(LonePages);
        lone.And(_missing!);
        _hotLeft = (int)Math.Min(lone.CountSet(), MostHotAhead);
        return lone;
    }

    // As ChooseRound, of a guest that stands: only what was pushed can have been given back and matter.
    private void ChooseAfterWorkingSet()
    {
        PageBitmap written = _written!;
        _sending.Clear();
        Tracking.Scan(_sending, _asked);
        written.Or(_sending);
        _present.Or(_sending);
        _dirty.Or(_sending);
        _holes.Clear();
        if (!KnowsPresence())
        {
            _sending.CopyFrom(_atDestination);
            _memory.KeepPresent(_sending);
            _holes.CopyFrom(_atDestination);
            _holes.AndNot(_sending);
        }

        _sending.CopyFrom(_dirty);
        _sending.AndNot(_holes);
    }
}
