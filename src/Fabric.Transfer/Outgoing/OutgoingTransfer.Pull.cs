using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Outgoing;

public sealed partial class OutgoingTransfer
{
    /// <summary>What the guest writes during the first pass is found by the second; what it writes during that one is little.</summary>
    private const int StalePasses = 2;

    /// <summary>Pieces of the map between two answers: who discards answers nothing else meanwhile, and all of a piece may have to be discarded.</summary>
    private const int PiecesAtOnce = 4;

    private readonly PullPlan _plan;
    private readonly bool _readsAhead;
    private readonly GuestFirst? _guestFirst;
    private readonly WriteHistory? _history; // of the rounds, where the order asks for it; a resumed pull has none

    // Set once by the flow (or, on resume, before TermsAccepted is acted on) and then used by the urgent thread and the bulk senders.
    private volatile PullSource? _pull;
    private volatile GuardedPath? _path;
    private Task? _bulk; // from when the destination has said that the guest runs there, or on resume from when the pull is served
    private PageBitmap? _missing;
    private PageBitmap? _said; // missing pages that the destination was told of while the guest still ran here
    private PageBitmap? _hot; // of the missing pages; none is known on resume
    private int _hotLeft; // pages to be sent before the guest asks for them; set before _pull, then the urgent thread's
    private long _missingPages;
    private ulong[]? _lack;

    public async Task ServePullAsync(CancellationToken cancellation)
    {
        if (_resume)
            await ResumeAsync(cancellation);
        PullSource pull = _pull ?? throw new InvalidOperationException("No pull was agreed: FinishStoppedAsync(Pull) comes first.");
        try
        {
            _bulk ??= PushMissingAsync(pull, CancellationToken.None);
            await _bulk.WaitAsync(cancellation);
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
        var pace = new PullPace(_settings, _workers.Count, _time);
        GuardedPath path = _path = new(_channels.Bulk, _channels.Urgent, _time);
        _guestFirst?.Begin();
        await RunJobAsync(new PullJob(pull, pace, path, _guestFirst, _life.Ended) { Barrier = Interlocked.Increment(ref _barrier) }, cancellation);
        if (_terms.Verify == VerifyLevel.Full)
            await RunJobAsync(new DigestJob(_present) { Barrier = Interlocked.Increment(ref _barrier) }, cancellation);
    }

    // No round follows, so what is stale at the destination is missing, and of a guest that outran the wire that is most of what was sent: freeing it takes a microsecond or two a page, for which the guest would stand.
    private async Task SayStaleAsync(CancellationToken cancellation)
    {
        _said ??= new PageBitmap(_memory.PageCount);
        var stale = new PageBitmap(_memory.PageCount);
        for (int pass = 0; pass < StalePasses; pass++)
        {
            await Task.Run(FindStale, cancellation);
            if (stale.IsEmpty)
                return;
            for (int word = 0; word < stale.Words.Length;)
            {
                word = SendMap(stale.Words, word, PiecesAtOnce);
                await _life.WithinAsync(_echoes.Ping(), _settings.AnswerDeadline, "The end of what is stale at the destination", cancellation);
            }
        }

        void FindStale()
        {
            ScanWrites();
            _dirty.Or(Found);
            _history?.Latest().Or(Found);
            stale.CopyFrom(_dirty);
            stale.And(_atDestination);
            stale.AndNot(_said!);
            _said!.Or(stale);
        }
    }

    // The pages that the destination lacks: everything present, or after a push what was written since; and what saving the state wrote.
    private async Task<byte[]> SendMissingMapAsync(Task<byte[]> deviceState, CancellationToken cancellation)
    {
        if (!_holes.IsEmpty)
            await RunJobAsync(NewPush(new PageBitmap(_memory.PageCount), _holes, PageFlags.None), cancellation);
        // The destination holds stale copies of some of these: it discards them while the state is being saved. Their barrier was confirmed before the guest stopped.
        if (_pushed)
            SendMap(_sending.Words);
        byte[] state = await StateAsync(deviceState, cancellation);
        // What was written since the last look, moments before the guest stopped or while its state was saved, it will write again: these pages are hot.
        PageBitmap hot = _hot = _holes; // free: the zero runs are sent
        hot.Clear();
        if (_pushed)
        {
            Tracking.Scan(hot, _asked);
            SendMap(hot.Words);
            _sending.Or(hot);
            _present.Or(_sending);
            if (_written is not null)
                hot.Or(_written);
        }
        else if (_looked)
        {
            Tracking.Scan(hot);
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
        if (!_pushed)
            SendMap(_missing.Words);
        return state;
    }

    // The destination has Finish, or has said what it lacks: from now on wanted pages are answered, since loading the device state touches guest memory. No round follows, so _dirty is free.
    private void BeginPull()
    {
        List<PageBitmap> hot = _hot is null ? [] : [_hot];
        if (_written is not null)
            hot.Insert(0, FindLoneHot());
        _pull = new PullSource(_missing!, _missingPages, _plan.Begin(_missing!, _dirty, hot, _history));
        _pullBegun.Ring();
    }

    private void SendMap(ReadOnlySpan<ulong> words) => SendMap(words, 0, int.MaxValue);

    /// <summary>Sends at most so many pieces that have something in them, from a word on; returns the word to go on with.</summary>
    private int SendMap(ReadOnlySpan<ulong> words, int first, int pieces)
    {
        byte[] body = new byte[FrameHeader.SmallBody];
        for (; first < words.Length && pieces > 0; first += MapPiece.MaxWords)
        {
            ReadOnlySpan<ulong> piece = words.Slice(first, Math.Min(MapPiece.MaxWords, words.Length - first));
            int lead = piece.IndexOfAnyExcept(0UL);
            if (lead < 0)
                continue;
            piece = piece[lead..(piece.LastIndexOfAnyExcept(0UL) + 1)];
            int length = MapPiece.Write(piece, body);
            SendControl(FrameKind.MissingMap, (ulong)(first + lead), body.AsSpan(0, length));
            pieces--;
        }

        return first;
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
        BeginPull();
    }

    private void TakeLackMap(FrameHeader header, ReadOnlySpan<byte> body)
    {
        if (_lack is not { } lack || _termsAccepted.Task.IsCompleted)
            throw _channels.Control.Malformed("a map of lacking pages, unasked");
        if (!MapPiece.TryMerge(body, header.Argument, _memory.PageCount, lack, out FabricError? error))
            throw new FabricException(error);
    }

    // On resume, and right behind Finish, the first wants may come before the order of the pull has been put together.
    private readonly Doorbell _pullBegun = new();
    private volatile bool _pullBegins; // a pull is resumed, or its Finish is about to be sent

    /// <summary>A quarter of a millisecond at 1 Gb/s.</summary>
    private const int PieceAhead = 8;

    /// <summary>Between two looks at what is under way: a page's time at 1 Gb/s, as far as timers go.</summary>
    private static readonly TimeSpan PauseAhead = TimeSpan.FromMicroseconds(60);

    /// <summary>So many looks in a row, and the path is not slow but cut: then there is a longer pause between two.</summary>
    private const int LooksAhead = 200;

    private static readonly TimeSpan PauseStuck = TimeSpan.FromMilliseconds(5);

    /// <summary>Bytes of a path of which nothing is known, since bulk does not go yet: a page, whose acknowledgement may be late. The device state is being loaded, and pages may be wanted for it.</summary>
    private const int UnknownPath = VmSpec.PageSize;

    // A fault is seldom alone: the block of 8 pages that it lies in goes with it, in a frame of its own behind it. Most of what a guest touches in its first moments lies so, and so do
    // the queues of virtio devices, which the loading of the device state goes over before anything is pushed.
    private const int NeighbourShift = 3;
    private const int NeighboursOf = WantList.MaxPages >> (NeighbourShift + 1);

    private void SendUrgently(ReadOnlySpan<long> pages, PageFlags why)
    {
        while (!pages.IsEmpty)
        {
            int some = Math.Min(pages.Length, Limits.PagesPerFrame);
            pages[..some].CopyTo(_urgentSender.Chunk);
            _urgentSender.SendPages(some, PageFlags.Frozen | PageFlags.Pull | why, 0);
            pages = pages[some..];
        }
    }

    // Answers wants. What the guest is about to touch goes right behind what it waits for, in pieces: a want that comes meanwhile is answered first, and one for a page that is on its way
    // already changes nothing.
    private void UrgentLoop()
    {
        long[] pages = new long[WantList.MaxPages];
        ReadAhead ahead = new();
        int left = 0;
        int looks = 0;
        while (!_life.IsOver)
        {
            if (_pull is { } begun && left + _hotLeft > 0 && !_channels.Urgent.HasInput)
            {
                if (AwaitPath(ref looks))
                    continue;
                if (left > 0)
                    left = SendAhead(begun, ahead, left, pages);
                else
                    SendHot(begun, pages);
                continue;
            }

            FrameHeader header = _channels.Urgent.Receive(TimeSpan.MaxValue, out ReadOnlySpan<byte> body);
            if (header.Kind != FrameKind.Want)
                throw _channels.Urgent.Malformed($"a {header.Kind} frame");
            if (!WantList.TryDecode(body, _memory.PageCount, pages, out int count, out FabricError? error))
                throw new FabricException(error);
            if (_pull is null && _pullBegins)
                _pullBegun.Wait(_life.Ended);
            PullSource pull = _pull ?? throw _channels.Urgent.Malformed("wanted pages before any are missing");
            int kept = pull.ClaimWanted(pages.AsSpan(0, count));
            if (kept == 0)
                continue;
            _guestFirst?.Wanted();
            SendUrgently(pages.AsSpan(0, kept), PageFlags.Wanted);
            if (!_readsAhead)
                continue;
            long fault = pull.LastFault;
            if (kept <= NeighboursOf)
                SendUrgently(pages.AsSpan(kept, pull.ClaimAround(pages, kept, NeighbourShift)), PageFlags.None);
            left = _tokenSent ? ahead.Begin(fault) : 0;
        }
    }

    // What the kernel has taken no want can overtake. True: too much is under way, and a while has passed.
    private bool AwaitPath(ref int looks)
    {
        if (_channels.Urgent.OutstandingBytes <= (_path?.AheadBytes ?? UnknownPath))
        {
            looks = 0;
            return false;
        }

        _channels.Urgent.AwaitInput(++looks < LooksAhead ? PauseAhead : PauseStuck);
        return true;
    }

    // The first of them while the destination loads the device state: the wire is idle then, and the guest does not run yet. Begins with the first page that is wanted: there hardly is a state whose loading touches none.
    private void SendHot(PullSource pull, long[] pages)
    {
        int count = pull.ClaimHot(pages.AsSpan(0, Math.Min(_hotLeft, PieceAhead)));
        SendUrgently(pages.AsSpan(0, count), PageFlags.None);
        _hotLeft = count == 0 ? 0 : _hotLeft - count;
    }

    private int SendAhead(PullSource pull, ReadAhead ahead, int left, long[] pages)
    {
        int count = pull.ClaimAhead(ref ahead.Next, ahead.IsForward, pages.AsSpan(0, Math.Min(left, PieceAhead)));
        SendUrgently(pages.AsSpan(0, count), PageFlags.None);
        return count == 0 ? 0 : left - count;
    }
}
