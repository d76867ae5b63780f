using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Incoming;

public sealed partial class IncomingTransfer
{
    // Set before the first page of the pull can come.
    private volatile PullSink? _sink;

    // What is about to be discarded; made with the terms, since the guest stands when it is needed. A resumed pull has none.
    private volatile PageBitmap? _stale;

    // A fresh pull's trap is set.
    private readonly Doorbell _trapped = new();

    // All pushed pages are in place. What is missing becomes a hole, holes are trapped, and only then may anything touch the memory.
    private void BeginPull(FinishBody finish)
    {
        long missing = _pullState.Missing.CountBits();
        if (missing != finish.MissingPages)
            throw new FabricException(ErrorCodes.Malformed, $"The map names {missing} missing pages; {finish.MissingPages} were announced.");
        // Most of it was discarded when its map came; a page that came in after that, against the protocol, is not kept either.
        DiscardStale(0, _pullState.Missing.Count);
        // A suspect that is missing comes again anyway.
        _books.Suspect.AndNot(_pullState.Missing.Span);
        CheckSuspects();
        if (_agreed.Verify == VerifyLevel.Full)
            _digests.TakeKept(_books.Filled, _pullState);
        _pullState.Seal();
        Trap();
        _trapped.Ring();
    }

    /// <summary>By the control thread until Finish, by the flow afterwards.</summary>
    private void DiscardStale(int firstWord, int words)
    {
        PageBitmap stale = _stale!;
        if (!_books.Take(firstWord, _pullState.Missing.Span.Slice(firstWord, words), stale))
            return;
        for (long from = 64L * firstWord; stale.TryNextRun(from, int.MaxValue, out PageRun run); from = run.End)
        {
            _memory.Discard(run);
            stale.ClearRun(run);
        }
    }

    private void BeginResumedPull()
    {
        PullSink sink = Trap();
        _life.Start($"{_name}-faults", () => sink.ServeFaults(_urgent!));
        SendLackMap();
        sink.WakeAll();
    }

    private PullSink Trap()
    {
        _pullState.Trap ??= _memory.TrapMissing();
        return _sink = new(_pullState, _memory.PageSize, _life, _time);
    }

    private void SendLackMap()
    {
        byte[] body = new byte[FrameHeader.SmallBody];
        ulong[] piece = new ulong[MapPiece.MaxWords];
        int words = _pullState.Missing.Count;
        for (int first = 0; first < words; first += MapPiece.MaxWords)
        {
            int count = Math.Min(MapPiece.MaxWords, words - first);
            for (int i = 0; i < count; i++)
                piece[i] = _pullState.Missing.Span[first + i] & ~_pullState.Arrived.Span[first + i];
            if (!piece.AsSpan(0, count).ContainsAnyExcept(0UL))
                continue;
            int length = MapPiece.Write(piece.AsSpan(0, count), body);
            _control!.Send(FrameKind.LackMap, (ulong)first, body.AsSpan(0, length));
        }
    }

    /// <summary>Where digests are to be compared, a source that lives is waited for; whoever has every page needs it for nothing else.</summary>
    private async Task<bool> SourceComesAsync(CancellationToken cancellation)
    {
        if (_pullState.Digests is null)
            return false;
        try
        {
            await _life.WithinAsync(_terms.Task, _settings.AnswerDeadline, "The source's terms", cancellation);
            return true;
        }
        catch (FabricException e) when (e.Error.Code == ErrorCodes.DeadlineExceeded)
        {
            return false;
        }
    }

    /// <summary>
    /// The last page had arrived when the stream, or the agent, ended: nothing is missing, and whether the source can still be reached decides nothing about the VM. A source that lives hears
    /// the rest from the supervisor.
    /// </summary>
    private async Task CompleteAloneAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        _pullState.Trap ??= _memory.TrapMissing();
        using (PullSink sink = new(_pullState, _memory.PageSize, _life, _time))
            sink.WakeAll();
        _pullState.Trap.Dispose();
        _pullState.Trap = null;
        await handler.CompletePullAsync(verified: null, cancellation);
    }

    private async Task CompletePullAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        PullSink sink = _sink!;
        // No deadline of its own: the source's silence ends the transfer, and the state survives it.
        await _life.WithinAsync(sink.AllArrived, Timeout.InfiniteTimeSpan, "The missing pages", cancellation);
        sink.EndFaults();
        await _life.WithinAsync(sink.FaultsEnded, _settings.AnswerDeadline, "The fault thread's end", cancellation);
        _pullState.Trap?.Dispose();
        _pullState.Trap = null;
        bool equal = true;
        if (_agreed.Verify == VerifyLevel.Full)
        {
            await _life.WithinAsync(_digests.AllCompared, _settings.ReadyDeadline, "The digests of all of memory", cancellation);
            equal = _digests.Difference is null;
        }

        Volatile.Write(ref _verified, _agreed.Verify == VerifyLevel.None ? -1 : equal ? 1 : 0);
        // A difference is reported, not a reason to hold on: the VM runs here, and the source's copy cannot make its memory right again.
        if (!equal)
            _logger.LogCritical("The pulled memory differs from the source's frozen copy: {Error}", _digests.Difference);
        await handler.CompletePullAsync(_agreed.Verify == VerifyLevel.None ? null : equal, cancellation);
        _control!.Send(FrameKind.PullDone, 0, [equal ? (byte)1 : (byte)0]);
    }
}
