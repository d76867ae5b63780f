using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Outgoing;

public sealed partial class OutgoingTransfer
{
    private readonly PullPlan _plan;
    private readonly WriteHistory? _history; // of the rounds, where the order asks for it; a resumed pull has none

    // Set once by the flow (or, on resume, before TermsAccepted is acted on) and then used by the urgent thread and the bulk senders.
    private volatile PullSource? _pull;
    private PageBitmap? _missing;
    private long _missingPages;
    private ulong[]? _lack;

    public async Task ServePullAsync(CancellationToken cancellation)
    {
        if (_resume)
            await ResumeAsync(cancellation);
        PullSource pull = _pull ?? throw new InvalidOperationException("No pull was agreed: FinishStoppedAsync(Pull) comes first.");
        try
        {
            await PushMissingAsync(pull, cancellation);
        }
        catch (FabricException) when (_pullDone.Task.IsCompletedSuccessfully)
        {
            // The last page was a wanted one: the destination said that it has all and closed, while this end still had a barrier to send.
        }

        bool verified = await _life.WithinAsync(_pullDone.Task, _settings.ReadyDeadline, "The destination's word that it has all pages", cancellation);
        Volatile.Write(ref _verified, _terms.Verify == VerifyLevel.None ? -1 : verified ? 1 : 0);
        if (!verified)
            _logger.LogCritical("The destination's memory differs from the source's frozen copy.");
    }

    private async Task PushMissingAsync(PullSource pull, CancellationToken cancellation)
    {
        _workers.KeepQueuesShort(_settings.PullUnsentBytes);
        int chunk = Math.Clamp(_settings.PullFramePages, 1, Limits.PagesPerFrame);
        await RunJobAsync(new PullJob(pull, chunk) { Barrier = Interlocked.Increment(ref _barrier) }, cancellation);
        if (_terms.Verify == VerifyLevel.Full)
            await RunJobAsync(new DigestJob(_present) { Barrier = Interlocked.Increment(ref _barrier) }, cancellation);
    }

    // The pages that the destination lacks: everything present, or after a push what was written since; and what saving the state wrote.
    private async Task<byte[]> SendMissingMapAsync(Task<byte[]> deviceState, CancellationToken cancellation)
    {
        if (!_holes.IsEmpty)
            await RunJobAsync(NewPush(new PageBitmap(_memory.PageCount), _holes, PageFlags.None), cancellation);
        byte[] state = await StateAsync(deviceState, cancellation);
        // What was written since the last look, moments before the guest stopped or while its state was saved, it will write again: these pages are hot.
        PageBitmap hot = _holes; // free: the zero runs are sent
        hot.Clear();
        if (_pushed)
        {
            _memory.ScanDirty(hot);
            _sending.Or(hot);
            _present.Or(_sending);
        }
        else if (_looked)
        {
            _memory.ScanDirty(hot);
            _present.Or(hot);
            _sending.CopyFrom(_present);
        }
        else
        {
            _memory.ReadPresence(_present);
            _sending.CopyFrom(_present);
        }

        _missing = _sending;
        _missingPages = _missing.CountSet();
        SendMap(_missing.Words);
        // Loading the device state touches guest memory: from here on wanted pages are answered. No round follows, so _dirty is free.
        _pull = new PullSource(_missing, _missingPages, _plan.Begin(_missing, _dirty, hot, _history));
        return state;
    }

    private void SendMap(ReadOnlySpan<ulong> words)
    {
        byte[] body = new byte[FrameHeader.SmallBody];
        for (int first = 0; first < words.Length; first += MapPiece.MaxWords)
        {
            ReadOnlySpan<ulong> piece = words.Slice(first, Math.Min(MapPiece.MaxWords, words.Length - first));
            int lead = piece.IndexOfAnyExcept(0UL);
            if (lead < 0)
                continue;
            piece = piece[lead..(piece.LastIndexOfAnyExcept(0UL) + 1)];
            int length = MapPiece.Write(piece, body);
            SendControl(FrameKind.MissingMap, (ulong)(first + lead), body.AsSpan(0, length));
        }
    }

    // The destination's word on what it lacks decides; this end may have been restarted and know nothing.
    private async Task ResumeAsync(CancellationToken cancellation)
    {
        _lack = new ulong[(_memory.PageCount + 63) >> 6];
        _pullDone.Expect();
        await AgreeAsync(cancellation);
        await Task.Run(() => _memory.ReadPresence(_present), cancellation);
        _missing = new PageBitmap(_memory.PageCount);
        _missing.CopyFrom(_lack);
        _missingPages = _missing.CountSet();
        _pull = new PullSource(_missing, _missingPages, _plan.Begin(_missing, _dirty));
        _resumed.Set();
    }

    private void TakeLackMap(FrameHeader header, ReadOnlySpan<byte> body)
    {
        if (_lack is not { } lack || _termsAccepted.Task.IsCompleted)
            throw _channels.Control.Malformed("a map of lacking pages, unasked");
        if (!MapPiece.TryMerge(body, header.Argument, _memory.PageCount, lack, out FabricError? error))
            throw new FabricException(error);
    }

    // On resume the first wants may come before the map has been put together.
    private readonly ManualResetEventSlim _resumed = new();

    private const int NeighbourShift = 3;
    private const int NeighboursOf = WantList.MaxPages >> (NeighbourShift + 1);

    private void SendUrgently(ReadOnlySpan<long> pages)
    {
        while (!pages.IsEmpty)
        {
            int some = Math.Min(pages.Length, Limits.PagesPerFrame);
            pages[..some].CopyTo(_urgentSender.Chunk);
            _urgentSender.SendPages(some, PageFlags.Frozen | PageFlags.Pull, 0);
            pages = pages[some..];
        }
    }

    private void UrgentLoop()
    {
        long[] wanted = new long[WantList.MaxPages];
        while (!_life.IsOver)
        {
            FrameHeader header = _channels.Urgent.Receive(TimeSpan.MaxValue, out ReadOnlySpan<byte> body);
            if (header.Kind != FrameKind.Want)
                throw _channels.Urgent.Malformed($"a {header.Kind} frame");
            if (!WantList.TryDecode(body, _memory.PageCount, wanted, out int count, out FabricError? error))
                throw new FabricException(error);
            if (_pull is null && _resume)
                _resumed.Wait(_life.Ended);
            PullSource pull = _pull ?? throw _channels.Urgent.Malformed("wanted pages before any are missing");
            int kept = pull.ClaimWanted(wanted.AsSpan(0, count));
            SendUrgently(wanted.AsSpan(0, kept));
            // Until the token is passed it is the loading of the device state that waits, for few pages that lie close together (the queues of
            // virtio devices), and nothing is pushed yet: what lies around goes behind them.
            if (!_tokenSent && kept <= NeighboursOf)
            {
                int more = pull.ClaimAround(wanted, kept, NeighbourShift);
                SendUrgently(wanted.AsSpan(kept, more));
            }
        }
    }
}
