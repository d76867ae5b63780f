// The destination's end of a migration. Threads, all named after the migration:
//
//   RunAsync (async) ── terms, finish, device state, token, completion of the pull: the order of docs/PROTOCOL.md
//   control          ── reads the source's control frames; answers pings whatever the flow is busy with
//   bulk0 … bulkN    ── pages into guest memory (push) or into the trap (pull), barriers, digests
//   urgent           ── wanted pages
//   faults           ── until Finish: maps what was pushed where the guest will look for it; from Finish(pull) on: what the guest waits for
//
// Files: this one (attaching, the flow), .Receive (what the threads read), .Pull (finish and completion of a pull).
using System.Net.Sockets;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Incoming;

/// <inheritdoc cref="IIncomingTransfer"/>
public sealed partial class IncomingTransfer : IIncomingTransfer
{
    private readonly IGuestMemory _memory;
    private readonly IDisposable _pin; // the receivers write guest memory; the machine may end and be disposed before they do
    private readonly PullState _pullState;
    private readonly TransferSettings _settings;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly TransferLife _life;
    private readonly PushBooks _books;
    private readonly DigestCheck _digests;
    private readonly string _name;
    private readonly bool _resume;

    // Slots of the connections; guarded by _attachGate until the terms are accepted, unchanging afterwards.
    private readonly Lock _attachGate = new();
    private readonly DataChannel?[] _bulk = new DataChannel?[Limits.BulkConnections];
    private readonly List<PageReceiver> _receivers = [];
    private DataChannel? _control;
    private DataChannel? _urgent;
    private BarrierGate? _barriers;
    private AheadMap? _ahead; // null in a resumed pull

    // What the source is expected to say; the control thread completes them.
    private readonly Answer<TermsBody> _terms = new();
    private readonly Answer<FinishBody> _finish = new();
    private readonly Answer<Epoch> _token = new();
    private TermsBody _agreed;
    private Packings _packings;
    private volatile TaskCompletionSource? _flow; // null until it runs
    private int _verified = -1;

    /// <param name="pullState">
    /// Kept by the caller, who disposes it after the transfer. A fresh one for a new migration; a sealed one to resume the pull that it describes.
    /// </param>
    public IncomingTransfer(IGuestMemory memory, MigrationId migration, PullState pullState, TransferSettings settings, TimeProvider time, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(pullState);
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(time);
        ArgumentOutOfRangeException.ThrowIfNotEqual(pullState.PageCount, memory.PageCount);
        (_memory, _pullState, _settings, _time, _logger) = (memory, pullState, settings, time, logger);
        _pin = memory.Pin();
        _resume = pullState.IsSealed;
        _name = $"in-{migration.ToString()[..8]}";
        _life = new TransferLife($"Incoming transfer {migration}", time, logger);
        _books = new PushBooks(memory);
        _digests = new DigestCheck(memory);
        _terms.Expect();
    }

    public MigrationStats Snapshot()
    {
        PullSink? sink = _sink;
        PullFaults? faults = _pullState.Faults;
        long wire = 0;
        lock (_attachGate)
        {
            foreach (DataChannel? channel in _bulk.Append(_control).Append(_urgent))
                wire += channel?.BytesReceived ?? 0;
        }

        return new MigrationStats
        {
            TotalBytes = _memory.PageCount * _memory.PageSize,
            WireBytes = wire,
            PagesSent = _books.DataPages + (sink?.DataPages ?? 0),
            PagesZero = _books.ZeroPages + (sink?.ZeroPages ?? 0),
            RemainingBytes = sink is null ? 0 : (_pullState.MissingCount - _pullState.ArrivedCount) * _memory.PageSize,
            NetworkFaults = faults?.Network,
            MinorFaults = faults?.Minor,
            FaultMedianUs = faults?.Quantile(0.5),
            FaultP99Us = faults?.Quantile(0.99),
            FaultServiceUs = faults?.ServiceQuantile(0.5),
            FaultStallMs = faults?.Stalled.TotalMilliseconds,
            Verified = Volatile.Read(ref _verified) switch { 0 => false, 1 => true, _ => null },
        };
    }

    public async Task RunAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(handler);
        _flow = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        try
        {
            await FlowAsync(handler, cancellation);
        }
        finally
        {
            _flow.SetResult();
        }
    }

    private async Task FlowAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        try
        {
            if (_resume && _pullState.IsComplete && !await SourceComesAsync(cancellation))
            {
                await CompleteAloneAsync(handler, cancellation);
                return;
            }

            _agreed = await _life.WithinAsync(_terms.Task, Timeout.InfiniteTimeSpan, "The source's terms", cancellation);
            AcceptTerms();
            if (!_resume)
                await TakeOverAsync(handler, cancellation);
            if (_sink is not null)
                await CompletePullAsync(handler, cancellation);
            else
                Volatile.Write(ref _verified, _agreed.Verify == VerifyLevel.None ? -1 : 1);
        }
        catch (FabricException e)
        {
            if (e.Error.Code == ErrorCodes.Corrupt)
                Volatile.Write(ref _verified, 0);
            _life.Fail(e);
            throw;
        }
    }

    /// <summary>Ends the connections, waits for the threads and for <see cref="RunAsync"/>, which may be called off by this. A pull that is not complete stays trapped: its state is in the caller's hands.</summary>
    public async ValueTask DisposeAsync()
    {
        _life.End();
        if (_pullState.Trap is not null)
            _sink?.Interrupt();
        await Task.Factory.StartNew(_life.Dispose, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        if (_flow is { } flow)
            await flow.Task; // it may be in the guest's memory, or in the map of the pull, which the caller disposes next
        foreach (PageReceiver receiver in _receivers)
            receiver.Dispose();
        _sink?.Dispose();
        _ahead?.Dispose();
        _trapped.Dispose();
        _pin.Dispose();
    }

    /// <summary>Takes a connection over when it is welcome; otherwise the socket stays the caller's. Called by the listener, any thread.</summary>
    internal HelloStatus Attach(Socket socket, ChannelKind kind, int index)
    {
        lock (_attachGate)
        {
            ref DataChannel? slot = ref kind == ChannelKind.Control ? ref _control : ref kind == ChannelKind.Urgent ? ref _urgent : ref _bulk[index];
            if (slot is not null || _terms.Task.IsCompleted || _life.IsOver)
                return HelloStatus.Taken;
            DataChannel channel = new(socket, kind, index, _settings, _time);
            if (!_life.TryOwn(channel))
                return HelloStatus.Taken;
            slot = channel;
        }

        if (kind == ChannelKind.Control)
            _life.Start($"{_name}-control", ControlLoop, readsControl: true);
        return HelloStatus.Welcome;
    }

    private void AcceptTerms()
    {
        int attached = _bulk.TakeWhile(c => c is not null).Count();
        if (_agreed.PageCount != _memory.PageCount || _agreed.PageSize != _memory.PageSize)
            throw new FabricException(ErrorCodes.Incompatible, $"The source's VM has {_agreed.PageCount} pages of {_agreed.PageSize} bytes, the one prepared here {_memory.PageCount} of {_memory.PageSize}.");
        if (_urgent is null || _agreed.BulkConnections != attached)
            throw new FabricException(ErrorCodes.Malformed, $"The source announces {_agreed.BulkConnections} bulk connections; {attached} are there.");
        if (_agreed.Resume != _resume)
            throw new FabricException(ErrorCodes.Conflict, _resume ? "A pull is waiting to be resumed here; the source wants to begin anew." : "The source wants to resume a pull that this end knows nothing of.");
        if (_agreed.Verify == VerifyLevel.Full && _pullState.Digests is null)
            throw new FabricException(ErrorCodes.Conflict, "The source wants all of memory compared; this end was not prepared for it.");
        _packings = _agreed.Packings & BlockCodecs.Available;
        _barriers = new BarrierGate(attached, _life, _time, _settings.FrameDeadline, OnBarrier);
        if (_resume)
        {
            BeginResumedPull();
        }
        else
        {
            _finish.Expect();
            _stale = new PageBitmap(_memory.PageCount);
            _ahead = new AheadMap(_memory, _books, _life);
            _life.Start($"{_name}-faults", MapThenServe);
        }

        for (int i = 0; i < attached; i++)
        {
            DataChannel channel = _bulk[i]!;
            StartReceiver(channel, $"{_name}-bulk{i}");
        }

        StartReceiver(_urgent, $"{_name}-urgent");
        _control!.Send(FrameKind.TermsAccepted, (ulong)_packings);
    }

    // One thread: the guest stands when the second half begins, and the birth of a thread would be waited for.
    private void MapThenServe()
    {
        _ahead!.Run();
        _trapped.Wait(_life.Ended);
        _sink!.ServeFaults(_urgent!);
    }

    private void OnBarrier(long number)
    {
        _control!.Send(FrameKind.BarrierReached, (ulong)number);
        _ahead?.Wake();
    }

    private void StartReceiver(DataChannel channel, string name)
    {
        PageReceiver receiver = new(channel, _memory, _books, _agreed.Verify, channel.Kind == ChannelKind.Bulk ? _packings : Packings.None);
        _receivers.Add(receiver);
        _life.Start(name, () => ReceiveLoop(channel, receiver));
    }

    // From Finish to Running: the steps and their order are the protocol's.
    private async Task TakeOverAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        FinishBody finish = await _life.WithinAsync(_finish.Task, Timeout.InfiniteTimeSpan, "The source's finish", cancellation);
        try
        {
            await _life.WithinAsync(_barriers!.PassedAsync(finish.LastBarrier), _settings.AnswerDeadline, "The last barrier", cancellation);
            await _life.WithinAsync(_ahead!.EndAsync(), _settings.AnswerDeadline, "The end of mapping ahead", cancellation);
            ReadOnlyMemory<byte> state = CheckState(finish);
            if (finish.Pull)
                BeginPull(finish);
            else
                await CheckCompleteAsync(cancellation);
            await handler.LoadDeviceStateAsync(state, finish.Pull ? HandOverKind.Pull : HandOverKind.Complete, cancellation);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw SayError(FrameKind.NotReady, 0, e);
        }

        _state = new MemoryStream();
        _token.Expect();
        _control!.Send(FrameKind.Ready);
        Epoch epoch = await _life.WithinAsync(_token.Task, Timeout.InfiniteTimeSpan, "The run token", cancellation);
        long began = _time.GetTimestamp();
        TimeSpan running;
        try
        {
            running = await handler.AcceptTokenAsync(epoch, cancellation);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw SayError(FrameKind.TokenRefused, (ulong)epoch.Value, e);
        }

        byte[] body = new byte[RunningBody.Size];
        new RunningBody(_time.GetElapsedTime(began) - running, running).Write(body);
        _control.Send(FrameKind.Running, (ulong)epoch.Value, body);
    }

    private FabricException SayError(FrameKind kind, ulong argument, Exception cause)
    {
        FabricException error = cause as FabricException ?? new FabricException(ErrorCodes.MachineFailed, cause.Message, cause: cause);
        if (!_life.IsOver)
        {
            Span<byte> body = stackalloc byte[ErrorText.MaxSize];
            try
            {
                _control!.Send(kind, argument, body[..ErrorText.Write(error.Error, body)]);
            }
            catch (FabricException e)
            {
                _logger.LogInformation("The source could not be told of {Error}: {Reason}", error.Error, e.Error);
            }
        }

        return error;
    }

    private async Task CheckCompleteAsync(CancellationToken cancellation)
    {
        CheckSuspects();
        if (_agreed.Verify != VerifyLevel.Full)
            return;
        await _life.WithinAsync(_digests.AllCompared, _settings.AnswerDeadline, "The digests of all of memory", cancellation);
        if (_digests.Difference is { } difference)
            throw new FabricException(difference);
    }

    private void CheckSuspects()
    {
        long suspects = _books.Suspect.CountSet();
        if (suspects > 0)
            throw new FabricException(ErrorCodes.Corrupt, $"{suspects} pages (page {_books.Suspect.NextSet(0)} among them) did not match their digests and never came again.");
    }

    private ReadOnlyMemory<byte> CheckState(FinishBody finish)
    {
        if (finish.StateLength != _stateLength)
            throw new FabricException(ErrorCodes.Malformed, $"The device state has {_stateLength} bytes; {finish.StateLength} were announced.");
        ReadOnlyMemory<byte> state = _state.GetBuffer().AsMemory(0, (int)_stateLength);
        return Xxh3.Hash128(state.Span) == finish.StateDigest
            ? state
            : throw new FabricException(ErrorCodes.Corrupt, "The device state was damaged on its way: its digest differs.");
    }
}
