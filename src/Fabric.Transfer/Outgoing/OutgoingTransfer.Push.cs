using Fabric.Core;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

// Which pages must go in a round, and why the destination ends with the same memory:
//   dirty    what was written since it was last taken (scanned and re-armed in one step, so no write falls between two rounds)
//   present  what exists; read after the scan, so a page that appears later is dirty in the next scan. In the first round piece by piece: each is armed, then looked at, then sent
//   sent     dirty ∧ present; in the first round, all that is present
//   zeroed   what the destination holds and is a hole here (the guest gave it back): a zero run, without touching the hole
//   held     pages of sent that the guest writes all the time: sent later, since they stay dirty
//
// A long round is looked at while it runs (.Looks): a scan adds to dirty what it finds, with one exception. A page that no sender has taken yet, as seen under
// the job's gate after the scan has returned, will be read after the scan has armed it again: what was written before goes with this round, and what is written
// later is found by a later scan. Only such a page may be left out of dirty.
public sealed partial class OutgoingTransfer
{
    public async Task<RoundReport> PushRoundAsync(Func<PushLook, bool> goesOn, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(goesOn);
        await AgreeAsync(cancellation);
        long began = _time.GetTimestamp();
        long wireBefore = BulkBytes();
        long dataBefore = _counters.DataPages;
        long zeroBefore = _counters.ZeroPages;
        bool first = !_pushed;
        if (!first)
            await Task.Run(() => ChooseRound(stands: false), cancellation);
        long windows = Windows.Ended;
        long held = HoldBack();
        BeginStretch();
        long number = ++_round;
        PushJob job = NewPush(_sending, _holes, PageFlags.None, known: !first);
        Task sent = RunJobAsync(job, cancellation);
        if (first)
            await ChooseFirstAsync(job, cancellation);
        await LookUntilAsync(sent, job, goesOn, cancellation);
        await _life.WithinAsync(BarrierAsync(job.Barrier), _settings.AnswerDeadline, "The destination's confirmation of a round", cancellation);
        EndStretch();
        if (held > 0)
            await LingerAsync(job, windows, cancellation);
        long dirtyAfter = await Task.Run(ScanDirty, cancellation);
        TimeSpan elapsed = _time.GetElapsedTime(began);
        RoundReport report = new(
            (int)number, _counters.DataPages - dataBefore, _counters.ZeroPages - zeroBefore, BulkBytes() - wireBefore, elapsed, dirtyAfter, LookNow(0, dirtyAfter));
        if (!first)
            Interlocked.Add(ref _resent, report.PagesSent);
        Volatile.Write(ref _dirtyRate, elapsed > TimeSpan.Zero ? (long)(dirtyAfter * _memory.PageSize / elapsed.TotalSeconds) : 0);
        _lastRound = report;
        return report;
    }

    public async Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation)
    {
        await AgreeAsync(cancellation);
        if (kind == HandOverKind.Pull && !_pushed && !_looked)
        {
            await TakeLookAsync(cancellation);
            return;
        }

        if (_ahead is { } ahead)
            await EndAheadAsync(ahead, cancellation);
        SendControl(FrameKind.Stopping);
        if (kind == HandOverKind.Pull && _pushed && _written is null)
            await SayStaleAsync(cancellation);
    }

    public async Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(deviceState);
        await AgreeAsync(cancellation);
        if (_ahead is { } ahead)
            await EndAheadAsync(ahead, cancellation);
        // The device state is being saved at the same time; what saving writes is scanned afterwards. A pull without a push reads nothing before the
        // state is there.
        bool nothingSent = kind == HandOverKind.Pull && !_pushed;
        if (_written is not null)
            await Task.Run(ChooseAfterWorkingSet, cancellation);
        else if (!nothingSent)
            await Task.Run(() => ChooseRound(stands: true), cancellation);
        byte[] state = kind == HandOverKind.Complete
            ? await SendRestAsync(deviceState, cancellation)
            : await SendMissingMapAsync(deviceState, cancellation);
        _ready.Expect();
        _pullBegins = kind == HandOverKind.Pull;
        SendState(state, kind);
        if (kind == HandOverKind.Pull)
            BeginPull();
        await _life.WithinAsync(_ready.Task, _settings.ReadyDeadline, "The destination's readiness", cancellation);
        if (kind == HandOverKind.Complete)
            Volatile.Write(ref _verified, _terms.Verify == VerifyLevel.None ? -1 : 1);
    }

    private async Task<byte[]> SendRestAsync(Task<byte[]> deviceState, CancellationToken cancellation)
    {
        await RunJobAsync(NewPush(_sending, _holes, PageFlags.None, last: true), cancellation);
        byte[] state = await StateAsync(deviceState, cancellation);
        _dirty.Clear();
        if (Tracking.Scan(_dirty) > 0)
        {
            // Few pages, seldom holes: they go as they are. From here on nothing writes, so every digest must match.
            _present.Or(_dirty);
            await RunJobAsync(NewPush(_dirty, null, PageFlags.Frozen, last: true), cancellation);
        }

        // Nobody waits for these barriers here: the destination checks the last one before it says Ready.
        if (_terms.Verify == VerifyLevel.Full)
            await RunJobAsync(new DigestJob(_present) { Barrier = ++_barrier }, cancellation);
        return state;
    }

    private async Task<byte[]> StateAsync(Task<byte[]> deviceState, CancellationToken cancellation)
    {
        byte[] state = await _life.WithinAsync(deviceState, _settings.ReadyDeadline, "The device state", cancellation);
        return state.Length <= Limits.DeviceStateBytes
            ? state
            : throw new FabricException(ErrorCodes.Unsupported, $"The device state has {state.Length} bytes; at most {Limits.DeviceStateBytes} can be moved.");
    }

    private void SendState(byte[] state, HandOverKind kind)
    {
        for (int offset = 0; offset < state.Length; offset += FrameHeader.SmallBody)
            SendControl(FrameKind.DeviceState, (ulong)offset, state.AsSpan(offset, Math.Min(FrameHeader.SmallBody, state.Length - offset)), more: true);
        Span<byte> body = stackalloc byte[FinishBody.Size];
        bool pull = kind == HandOverKind.Pull;
        new FinishBody(pull, state.Length, Xxh3.Hash128(state), _barrier, pull ? _missingPages : 0).Write(body);
        SendControl(FrameKind.Finish, 0, body);
    }

    // The first round is sent while it is being chosen: of a guest of 64 GiB that takes more than a second.
    private async Task ChooseFirstAsync(PushJob job, CancellationToken cancellation)
    {
        try
        {
            await Task.Run(() => ChooseFirst(job.Reached), cancellation);
        }
        catch (FabricException e)
        {
            // Part of it may have been sent: there is no other first round.
            _life.Fail(e);
            throw;
        }
        finally
        {
            job.Complete(_firstPages);
        }
    }

    // All that exists, into _sending.
    private void ChooseFirst(Action<long> reached)
    {
        _pushed = true;
        _holes.Clear();
        Windows.Restart();
        _tracking = _memory.StartDirtyTracking(_sending, page =>
        {
            _life.ThrowIfOver();
            reached(page);
        });
        // Who ended the transfer just now found no recording to end.
        if (_life.Ended.IsCancellationRequested)
            GuestLook.EndRecording(_tracking, _logger);
        _present.CopyFrom(_sending);
        _firstPages = _present.CountSet();
    }

    // Takes the dirty pages of now into _sending, the holes to be zeroed into _holes. Runs on a pool thread.
    private void ChooseRound(bool stands)
    {
        if (!_pushed)
        {
            ChooseFirst(static _ => { });
            return;
        }

        TakeWrites(stands);
        _present.Or(_dirty);
        if (!stands || !KnowsPresence())
            _memory.ReadPresence(_present);
        _sending.CopyFrom(_dirty);
        _sending.And(_present);
        _holes.CopyFrom(_atDestination);
        _holes.AndNot(_present);
        if (_said is { } said)
        {
            // Also what was given back since: it is missing there by now, whatever it is here.
            _sending.Or(said);
            _holes.AndNot(said);
        }

        _dirty.Clear();
    }

    // To go over all that exists takes milliseconds for each GiB, and the guest stands. _present, with what was written since it was read, is all that can exist; where as many pages do exist, it is what exists. But for
    // one case: a page was given back, not written before that, and another was only read and so made. Both read as zeros here; at the destination the first is what it was, which the guest gave away.
    // Who compares all of memory would see it.
    private bool KnowsPresence() => _terms.Verify != VerifyLevel.Full && _memory.CountPresent() == _present.CountSet();

    private long ScanDirty()
    {
        TakeWrites(stands: false);
        return _dirty.CountSet();
    }

    // Adds the writes since the last scan to _dirty; where the pull's order wants to know, what was found between two rounds is a generation of its history.
    // Of a guest that stands nobody needs the habits any more, and each pass over a map is downtime.
    private void TakeWrites(bool stands)
    {
        if (stands && _history is null)
        {
            Tracking.Scan(_dirty);
            return;
        }

        if (ScanWrites() == 0)
            return;
        _dirty.Or(Found);
        _history?.Begin().Or(Found);
    }

    /// <param name="last">No round follows.</param>
    /// <param name="known">False: the pages are all that exist, and still have to be looked for.</param>
    private PushJob NewPush(PageBitmap pages, PageBitmap? holes, PageFlags flags, bool last = false, bool known = true)
    {
        long barrier = Interlocked.Increment(ref _barrier);
        long? count = known ? pages.CountSet() : null;
        int chunkPages = ChunkPages(count ?? _memory.CountPresent() ?? _memory.PageCount);
        // What the first round sends is mostly never sent again, and what is sent while the guest stands is not at all.
        bool keeps = _round > 1 && !last;
        return new PushJob(pages, count, holes, _atDestination, chunkPages, flags, (ulong)_round, keeps) { Barrier = barrier };
    }

    // A small remainder is split finely, so that all connections share it and the destination writes while this end still reads.
    private int ChunkPages(long pages)
    {
        long share = pages / (4L * _workers.Count);
        return (int)Math.Clamp(share, 1, Math.Clamp(_settings.PushFramePages, 1, Limits.PagesPerFrame));
    }

    private long BulkBytes()
    {
        long bytes = 0;
        foreach (var channel in _channels.Bulk)
            bytes += channel.BytesSent;
        return bytes;
    }
}
