using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Simulation.Machines;
using Fabric.Simulation.Worlds;
using Fabric.Transfer;

namespace Fabric.Simulation.Network;

/// <summary>The source's end of a simulated transfer.</summary>
internal sealed class Outgoing : TransferEnd, IOutgoingTransfer
{
    private const int FramePages = 64;
    private const int PullFramePages = 8;
    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan ReadyDeadline = TimeSpan.FromSeconds(60);

    private readonly World _world;
    private readonly Connection _connection;
    private readonly OutgoingRoute _route;
    private readonly SimMachine _machine;
    private readonly SimMemory _memory;
    private readonly PageBitmap _dirty;
    private readonly PageBitmap _unsent;
    private readonly TaskCompletionSource<bool> _agreed = new();
    private readonly TaskCompletionSource<bool> _ready = new();
    private readonly TaskCompletionSource<TimeSpan> _running = new();
    private readonly TaskCompletionSource<bool> _pulled = new();
    private readonly TimeSpan _frameTime;
    private TaskCompletionSource<bool> _barrier = new();
    private IDirtyTracking? _tracking;
    private bool _pushed;
    private int _round;
    private int _barriers;
    private long _pages;

    internal Outgoing(World world, Connection connection, OutgoingRoute route, SimMachine machine)
        : base(machine.Host.Process!)
    {
        (_world, _connection, _route, _machine) = (world, connection, route, machine);
        _memory = new SimMemory(machine);
        (_dirty, _unsent) = (new PageBitmap(_memory.PageCount), new PageBitmap(_memory.PageCount));
        _frameTime = TimeSpan.FromSeconds(FramePages * (double)VmSpec.PageSize / world.Plan.BytesPerSecond);
    }

    public Task<FabricError?> Over => Ended.Task;

    public MigrationStats Snapshot() => new()
    {
        TotalBytes = _memory.PageCount * VmSpec.PageSize,
        WireBytes = _pages * VmSpec.PageSize,
        PagesSent = _pages,
        Rounds = _round,
        RemainingBytes = (_dirty.CountSet() + _unsent.CountSet()) * VmSpec.PageSize,
    };

    public async Task<RoundReport> PushRoundAsync(Func<PushLook, bool> goesOn, CancellationToken cancellation)
    {
        await AgreeAsync(cancellation);
        long began = Process.Clock.GetTimestamp();
        long before = _pages;
        await SendPagesAsync(ChooseRound(), cancellation);
        _barrier = new TaskCompletionSource<bool>();
        _connection.ToDestination.Send(new Message.Barrier(++_barriers));
        await WithinAsync(_barrier, AnswerDeadline, "The confirmation of a round", cancellation);
        RequireMachine();
        _tracking?.Scan(_dirty);
        return new RoundReport(++_round, _pages - before, 0, (_pages - before) * VmSpec.PageSize, Process.Clock.GetElapsedTime(began), _dirty.CountSet());
    }

    public Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation) => AgreeAsync(cancellation);

    public async Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation)
    {
        await AgreeAsync(cancellation);
        byte[] state;
        if (kind == HandOverKind.Complete)
        {
            await SendPagesAsync(ChooseRound(), cancellation);
            state = await deviceState;
            await SendPagesAsync(ChooseRound(), cancellation);
            _connection.ToDestination.Send(new Message.Barrier(++_barriers));
        }
        else
        {
            state = await deviceState;
            _unsent.CopyFrom(ChooseRound());
        }

        RequireMachine();
        var missing = kind == HandOverKind.Pull ? Copy(_unsent) : null;
        long[]? digests = _route.Terms.Verify == VerifyLevel.Full ? [.. Enumerable.Range(0, (int)_memory.PageCount).Select(p => _machine.Version(p))] : null;
        _connection.ToDestination.Send(new Message.Finish(missing, state, digests));
        await WithinAsync(_ready, ReadyDeadline, "The destination's readiness", cancellation);
    }

    public async Task<long> PassTokenAsync(Epoch epoch, CancellationToken cancellation)
    {
        RequireWhole();
        _connection.ToDestination.Send(new Message.Token(epoch));
        return Process.Clock.GetTimestampBefore(await WithinAsync(_running, AnswerDeadline, "The word that the VM runs", cancellation));
    }

    public async Task ServePullAsync(CancellationToken cancellation)
    {
        await AgreeAsync(cancellation);
        while (!_unsent.IsEmpty && !_pulled.Task.IsCompleted)
        {
            RequireWhole();
            RequireMachine();
            var chunk = new List<int>();
            for (long page = _unsent.NextSet(0); page >= 0 && chunk.Count < PullFramePages; page = _unsent.NextSet(page + 1))
                chunk.Add((int)page);
            Serve(chunk);
            await Task.Delay(_frameTime * PullFramePages / FramePages, Process.Clock, cancellation);
        }

        await WithinAsync(_pulled, Timeout.InfiniteTimeSpan, "The end of the pull", cancellation);
    }

    public ValueTask DisposeAsync()
    {
        _tracking?.Dispose();
        if (Broken is null)
        {
            _connection.Close(this, new FabricError(ErrorCodes.Unreachable, "The source closed the connection."));
            Ended.TrySetResult(null);
            Break(new FabricError(ErrorCodes.Cancelled, "The transfer was disposed."));
        }

        return ValueTask.CompletedTask;
    }

    public override void Hear(Message message)
    {
        switch (message)
        {
            case Message.TermsAccepted m:
                foreach (int page in m.Lacks)
                    _unsent[page] = true;
                _agreed.TrySetResult(true);
                break;
            case Message.BarrierReached m when m.Number == _barriers: _barrier.TrySetResult(true); break;
            case Message.BarrierReached: break;
            case Message.Ready: _ready.TrySetResult(true); break;
            case Message.Running m: _running.TrySetResult(m.For); break;
            case Message.Want m when !_machine.Gone: Serve([.. m.Wanted.Where(p => _unsent[p])]); break;
            case Message.PullDone: _pulled.TrySetResult(true); break;
            case Message.Bye m:
                _connection.Close(this, m.Error);
                Break(m.Error);
                break;
        }
    }

    private async Task AgreeAsync(CancellationToken cancellation) => await WithinAsync(_agreed, AnswerDeadline, "The answer to the terms", cancellation);

    private void RequireMachine()
    {
        if (_machine.Gone)
            throw new FabricException(ErrorCodes.MachineFailed, $"{_machine} is gone.");
    }

    private PageBitmap ChooseRound()
    {
        RequireMachine();
        var pages = new PageBitmap(_memory.PageCount);
        if (!_pushed)
        {
            _pushed = true;
            _tracking = _memory.StartDirtyTracking();
            _memory.ReadPresence(pages);
            return pages;
        }

        _tracking?.Scan(_dirty);
        pages.CopyFrom(_dirty);
        _dirty.Clear();
        return pages;
    }

    private async Task SendPagesAsync(PageBitmap pages, CancellationToken cancellation)
    {
        var chunk = new List<(int, long)>();
        for (long page = pages.NextSet(0); page >= 0; page = pages.NextSet(page + 1))
        {
            RequireMachine();
            chunk.Add(((int)page, _machine.Version(page)));
            if (chunk.Count == FramePages)
            {
                Send(chunk, pull: false);
                chunk = [];
                await Task.Delay(_frameTime, Process.Clock, cancellation);
                RequireWhole();
            }
        }

        if (chunk.Count > 0)
        {
            Send(chunk, pull: false);
            await Task.Delay(_frameTime * chunk.Count / FramePages, Process.Clock, cancellation);
            RequireWhole();
        }
    }

    private void Serve(List<int> pages)
    {
        if (pages.Count == 0)
            return;
        foreach (int page in pages)
            _unsent[page] = false;
        Send([.. pages.Select(p => (p, _machine.Version(p)))], pull: true);
    }

    private void Send(List<(int, long)> data, bool pull)
    {
        _pages += data.Count;
        _connection.ToDestination.Send(new Message.Pages(_world.Plants.Stale(data), pull));
    }

    private static PageBitmap Copy(PageBitmap pages)
    {
        var copy = new PageBitmap(pages.Length);
        copy.CopyFrom(pages);
        return copy;
    }
}
