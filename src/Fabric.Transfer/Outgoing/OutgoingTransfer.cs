// The source's end of a migration. Threads, all made once and named after the migration:
//
//   caller (async)  ── rounds, stopped copy, token, pull: gives jobs to the bulk workers, awaits answers
//   bulk0 … bulkN   ── chunks of the job at hand: read, digest, zero check, sendmsg
//   control         ── reads the destination's answers
//   urgent          ── reads wanted pages, claims them, sends them at once
//
// Files: this one (state, answers), .Push (rounds, stopped copy), .Looks (what is learnt while a round runs), .WorkingSet (what goes before a pull without a push),
// .Pull (hand-over with missing pages, serving them).
using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Outgoing;

/// <inheritdoc cref="IOutgoingTransfer"/>
public sealed partial class OutgoingTransfer : IOutgoingTransfer
{
    private readonly IGuestMemory _memory;
    private readonly IDisposable _pin; // the senders read guest memory; the machine may end and be disposed before they do
    private readonly TransferTerms _terms;
    private readonly OutgoingChannels _channels;
    private readonly TransferSettings _settings;
    private readonly TimeProvider _time;
    private readonly TransferLife _life;
    private readonly BulkWorkers _workers;
    private readonly SendCounters _counters = new();
    private readonly PageSender _urgentSender;
    private readonly PageSender[] _senders;
    private DeltaCache? _kept; // made when the terms are agreed, then the senders'
    private readonly bool _resume;
    private readonly Echoes _echoes;
    private readonly ITimer _ping;
    private readonly ILogger _logger;

    // Touched by the caller's flow, and between jobs only; _atDestination also by a job's senders under its lock.
    private readonly PageBitmap _dirty;
    private readonly PageBitmap _sending;
    private readonly PageBitmap _present;
    private readonly PageBitmap _holes;
    private readonly PageBitmap _atDestination;
    private readonly WireMeter _wire = new(); // bytes
    private readonly WireMeter _carried = new(); // bytes of pages
    private bool _agreed;
    private IDirtyTracking? _tracking; // begun by the first round, or by the look; also the look's then
    private bool _pushed;
    private long _firstPages;

    private int _round;
    private long _barrier;

    // Read by the urgent thread. From the beginning where a pull is resumed.
    private volatile bool _tokenSent;

    // What the destination is expected to say next; the control thread completes them.
    private readonly Answer<Packings> _termsAccepted = new();
    private readonly Answer<bool> _ready = new();
    private readonly Answer<(RunningBody Said, long Runs)> _running = new();
    private readonly Answer<bool> _pullDone = new();
    private readonly Lock _barrierGate = new();
    private long _barrierReached;
    private TaskCompletionSource<long>? _barrierWaiter;

    // Written by the flow, read by Snapshot.
    private volatile RoundReport? _lastRound;
    private volatile PushLook? _lastLook;
    private long _dirtyRate = -1;
    private long _resent;
    private long _resumeMicroseconds = -1;
    private int _verified = -1;

    /// <param name="channels">Owned by the transfer from now on, unless this throws.</param>
    /// <param name="resume">True: the VM runs at the destination already and its pull broke; only <see cref="ServePullAsync"/> may be called.</param>
    /// <param name="plan">In which order a pull phase pushes.</param>
    /// <param name="look">Of a guest that is pulled without a push, if it has begun. As <paramref name="channels"/>.</param>
    public OutgoingTransfer(
        IGuestMemory memory, TransferTerms terms, OutgoingChannels channels, BandwidthCap? cap, TransferSettings settings, TimeProvider time, ILogger logger,
        bool resume = false, PullPlan? plan = null, GuestLook? look = null)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(terms);
        ArgumentNullException.ThrowIfNull(channels);
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(time);
        ArgumentOutOfRangeException.ThrowIfNotEqual(memory.PageCount, terms.PageCount);
        ArgumentOutOfRangeException.ThrowIfNotEqual(memory.PageSize, terms.PageSize);
        ArgumentOutOfRangeException.ThrowIfNotEqual(channels.BulkConnections, terms.BulkConnections);
        (_memory, _terms, _channels, _settings, _time, _resume) = (memory, terms, channels, settings, time, resume);
        _pin = memory.Pin();
        _look = look;
        _tokenSent = resume;
        _pullBegins = resume;
        _plan = plan ?? PullPlan.Default;
        _readsAhead = settings.ReadsAhead(_plan.Order);
        _guestFirst = _readsAhead ? new GuestFirst(time) : null;
        _history = _plan.UsesHistory && !resume ? new WriteHistory(memory.PageCount) : null;
        _logger = logger;
        _dirty = new PageBitmap(memory.PageCount);
        _sending = new PageBitmap(memory.PageCount);
        _present = new PageBitmap(memory.PageCount);
        _holes = new PageBitmap(memory.PageCount);
        _atDestination = new PageBitmap(memory.PageCount);
        string name = $"out-{terms.Migration.ToString()[..8]}";
        _life = new TransferLife($"Outgoing transfer {terms.Migration}", time, logger);
        foreach (DataChannel channel in channels.Bulk.Prepend(channels.Urgent).Prepend(channels.Control))
            _life.TryOwn(channel); // nothing has ended it yet
        _urgentSender = new PageSender(channels.Urgent, memory, terms.Verify, cap, _counters, time, _life.Ended);
        _senders = [.. channels.Bulk.Select(c => new PageSender(c, memory, terms.Verify, cap, _counters, time, _life.Ended))];
        _workers = new BulkWorkers(_senders, _life, name);
        _echoes = new Echoes(channels.Control);
        _life.Start($"{name}-control", ControlLoop, readsControl: true);
        _life.Start($"{name}-urgent", UrgentLoop);
        _ping = time.CreateTimer(static t => ((OutgoingTransfer)t!).Ping(), this, settings.PingInterval, settings.PingInterval);
    }

    public Task<FabricError?> Over => _life.Over;

    private IDirtyTracking Tracking => _tracking ?? throw new InvalidOperationException("No writes have been recorded yet.");

    public MigrationStats Snapshot()
    {
        RoundReport? last = _lastRound;
        PushLook? look = _lastLook;
        PullSource? pull = _pull;
        long wire = _channels.Control.BytesSent + _channels.Urgent.BytesSent + _channels.Bulk.Sum(c => c.BytesSent);
        // Until something was looked at, what was not sent counts as left, also what will turn out to be a hole.
        long remaining = pull?.Left ?? look?.LeftPages + look?.DirtyPages ?? Math.Max(0, _memory.PageCount - _counters.DataPages - _counters.ZeroPages);
        double? rate = last is { Elapsed.Ticks: > 0 } ? last.WireBytes / last.Elapsed.TotalSeconds : null;
        double? carried = look is { WireRate: > 0 } ? look.WireRate : rate;
        long? dirtied = look is { FreshPagesPerSecond: > 0 } ? (long)(look.FreshPagesPerSecond * _memory.PageSize) : Volatile.Read(ref _dirtyRate) is >= 0 and var dirty ? dirty : null;
        return new MigrationStats
        {
            TotalBytes = _memory.PageCount * _memory.PageSize,
            WireBytes = wire,
            PagesSent = _counters.DataPages,
            PagesZero = _counters.ZeroPages,
            PagesResent = Volatile.Read(ref _resent),
            Rounds = last?.Round ?? 0,
            RemainingBytes = remaining * _memory.PageSize,
            DirtyRate = dirtied,
            PagesPacked = _counters.PackedPages,
            PagesDelta = _counters.DeltaPages,
            WireRate = (long?)(_wire.Rate > 0 ? _wire.Rate : rate),
            ExpectedDowntimeMs = carried is > 0 ? remaining * _memory.PageSize / carried * 1000 : null,
            ResumeMs = Volatile.Read(ref _resumeMicroseconds) is >= 0 and var micros ? micros / 1000.0 : null,
            Verified = Volatile.Read(ref _verified) switch { 0 => false, 1 => true, _ => null },
        };
    }

    public async Task<long> PassTokenAsync(Epoch epoch, CancellationToken cancellation)
    {
        _running.Expect();
        _tokenSent = true;
        // Few pages may all be wanted and sent before anybody calls ServePullAsync.
        if (_pull is not null)
            _pullDone.Expect();
        long sent = _time.GetTimestamp();
        SendControl(FrameKind.Token, (ulong)epoch.Value);
        (RunningBody said, long runs) = await _life.WithinAsync(_running.Task, _settings.AnswerDeadline, "The destination's word that the VM runs", cancellation);
        Volatile.Write(ref _resumeMicroseconds, (long)said.Resume.TotalMicroseconds);
        // Whoever asked writes down first that the VM is over there, and then lets the pull be served: bulk does not wait for a disk.
        if (_pull is { } pull)
            _bulk = PushMissingAsync(pull, CancellationToken.None); // its end is the transfer's
        return Math.Max(runs, sent);
    }

    /// <summary>Ends the connections, waits for the threads. Not from one of them.</summary>
    public async ValueTask DisposeAsync()
    {
        await _ping.DisposeAsync();
        _life.End();
        await (_ahead ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await (_bulk ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Task.Factory.StartNew(_life.Dispose, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        _channels.Dispose();
        _workers.Dispose();
        foreach (PageSender sender in _senders)
            sender.Dispose();
        _kept?.Dispose();
        _pin.Dispose();
        if (_look is not null)
            await _look.DisposeAsync();
        else
            GuestLook.EndRecording(_tracking, _logger);
        _pullBegun.Dispose();
    }

    private async Task AgreeAsync(CancellationToken cancellation)
    {
        _life.ThrowIfOver();
        if (_agreed)
            return;
        byte[] body = new byte[TermsBody.Size];
        Packings offered = _terms.Pack ? BlockCodecs.Available : Packings.None;
        new TermsBody(_terms.PageSize, _terms.PageCount, _terms.BulkConnections, _terms.Verify, _resume, offered).Write(body);
        _termsAccepted.Expect();
        SendControl(FrameKind.Terms, 0, body);
        Packings accepted = await _life.WithinAsync(_termsAccepted.Task, _settings.AnswerDeadline, "The destination's agreement to the terms", cancellation);
        if ((accepted & ~offered) != Packings.None)
            throw _channels.Control.Malformed($"an agreement to packings {accepted} where {offered} were offered");
        BeginPacking(accepted);
        _agreed = true;
    }

    // No job has been given yet; the threads of the senders see it with their first one. Urgent pages are few and waited for: packing them would cost more than it saves.
    private void BeginPacking(Packings packings)
    {
        long slots = Math.Min(_memory.PageCount / 4, _settings.DeltaCacheBytes / _memory.PageSize);
        if ((packings & Packings.Delta) != Packings.None && slots > 0 && !_resume)
            _kept = new DeltaCache((int)Math.Min(slots, int.MaxValue), _memory.PageSize);
        foreach (PageSender sender in _senders)
            sender.Pack(packings, _kept);
    }

    // Sends from the caller's flow. A broken connection ends the transfer, as it does in a thread.
    private void SendControl(FrameKind kind, ulong argument = 0, ReadOnlySpan<byte> body = default, bool more = false)
    {
        _life.ThrowIfOver();
        try
        {
            _channels.Control.Send(kind, argument, body, more);
        }
        catch (FabricException e)
        {
            _life.Fail(e);
            throw _life.Error ?? e;
        }
    }

    private async Task RunJobAsync(BulkJob job, CancellationToken cancellation)
    {
        _workers.Give(job);
        // No deadline of its own: every send has one, and the destination's silence ends the transfer.
        await _life.WithinAsync(job.Done.Task, Timeout.InfiniteTimeSpan, "The senders' end", cancellation);
    }

    private Task<long> BarrierAsync(long number)
    {
        lock (_barrierGate)
        {
            if (_barrierReached >= number)
                return Task.FromResult(number);
            _barrierWaiter = new TaskCompletionSource<long>(TaskCreationOptions.RunContinuationsAsynchronously);
            return _barrierWaiter.Task;
        }
    }

    private void Ping()
    {
        if (_life.IsOver)
            return;
        try
        {
            _ = _echoes.Ping(); // whether there is an answer, the reading end watches
        }
        catch (FabricException e) when (e.Error.Code == ErrorCodes.Unreachable)
        {
            // The peer may have said its last word (that the VM runs) and closed. The control thread reads what is still there, then sees the end itself.
        }
        catch (FabricException e)
        {
            _life.Fail(e);
        }
    }

    private void ControlLoop()
    {
        while (!_life.IsOver)
        {
            FrameHeader header = _channels.Control.Receive(_settings.SilenceDeadline, out ReadOnlySpan<byte> body);
            switch (header.Kind)
            {
                case FrameKind.Pong:
                    _echoes.Take();
                    break;
                case FrameKind.TermsAccepted:
                    if (header.Argument > byte.MaxValue)
                        throw _channels.Control.Malformed($"an agreement to packings {header.Argument}");
                    _termsAccepted.Say((Packings)header.Argument, _channels.Control, header.Kind);
                    break;
                case FrameKind.LackMap:
                    TakeLackMap(header, body);
                    break;
                case FrameKind.BarrierReached:
                    TakeBarrier((long)header.Argument);
                    break;
                case FrameKind.Ready:
                    _ready.Say(true, _channels.Control, header.Kind);
                    break;
                case FrameKind.Running:
                    if (!RunningBody.TryDecode(body, out RunningBody running, out FabricError? error))
                        throw new FabricException(error);
                    // Now: the flow, which hears it some threads later, would count its own waiting as the guest's.
                    _running.Say((running, _time.GetTimestampBefore(running.Running)), _channels.Control, header.Kind);
                    break;
                case FrameKind.PullDone:
                    _pullDone.Say(body[0] == 1, _channels.Control, header.Kind);
                    break;
                case FrameKind.NotReady or FrameKind.TokenRefused or FrameKind.Bye:
                    throw Refusal(header.Kind, body);
                default:
                    throw _channels.Control.Malformed($"a {header.Kind} frame, which a destination does not send");
            }
        }
    }

    private FabricException Refusal(FrameKind kind, ReadOnlySpan<byte> body)
    {
        if (!ErrorText.TryDecode(body, out FabricError? value, out FabricError? error))
            return new FabricException(error);
        if (value.Code == ErrorCodes.Corrupt)
            Volatile.Write(ref _verified, 0);
        return new FabricException(value with { Message = $"The destination says {kind}: {value.Message}" });
    }

    private void TakeBarrier(long number)
    {
        TaskCompletionSource<long>? waiter;
        lock (_barrierGate)
        {
            if (number != _barrierReached + 1 || number > Volatile.Read(ref _barrier))
                throw _channels.Control.Malformed($"barrier {number} reached, after {_barrierReached} of {_barrier}");
            _barrierReached = number;
            waiter = number == _barrier ? _barrierWaiter : null;
        }

        waiter?.TrySetResult(number);
    }
}
