using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Migration;
using Fabric.Simulation.Machines;
using Fabric.Transfer;

namespace Fabric.Simulation.Network;

/// <summary>The destination's end of a simulated transfer: from the terms to Running, and to PullDone where pages are pulled.</summary>
internal sealed class Incoming(DataPlane plane, IncomingRoute route, SimMachine machine) : TransferEnd(plane.Process), IIncomingTransfer
{
    private static readonly TimeSpan FaultPeriod = TimeSpan.FromMilliseconds(4);

    private readonly TaskCompletionSource<bool> _terms = new();
    private readonly TaskCompletionSource<Message.Finish> _finish = new();
    private readonly TaskCompletionSource<Epoch> _token = new();
    private readonly TaskCompletionSource<bool> _arrived = new();
    private readonly HashSet<int> _asked = [];
    private readonly bool _resume = machine.Sealed;
    private Connection? _connection;
    private ITimer? _faults;
    private long _pages;
    private bool _sourceResumes;

    internal void Attach(Connection connection) => _connection = connection;

    public MigrationStats Snapshot() => new()
    {
        TotalBytes = machine.Spec.MemoryBytes,
        WireBytes = _pages * VmSpec.PageSize,
        PagesSent = _pages,
        RemainingBytes = machine.Missing.CountSet() * VmSpec.PageSize,
    };

    public async Task RunAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        if (_resume && machine.Missing.IsEmpty)
        {
            machine.CompareMemory("when all of it is found to be here");
            await handler.CompletePullAsync(null, cancellation);
            return;
        }

        await WithinAsync(_terms, Timeout.InfiniteTimeSpan, "The source's terms", cancellation);
        if (_sourceResumes != _resume)
            throw Say(new FabricError(ErrorCodes.Conflict, "One end wants to resume a pull, the other does not."));
        var lacks = new List<int>();
        for (long page = machine.Missing.NextSet(0); page >= 0; page = machine.Missing.NextSet(page + 1))
            lacks.Add((int)page);
        Send(new Message.TermsAccepted(lacks));
        bool pull = _resume;
        if (_resume)
            ServeFaults();
        else
            pull = await TakeOverAsync(handler, cancellation);
        if (!pull)
            return;
        if (!plane.World.Plants.On("early-pull-done"))
        {
            SeeArrived();
            await WithinAsync(_arrived, Timeout.InfiniteTimeSpan, "The missing pages", cancellation);
        }

        machine.CompareMemory("when all of it is said to be here");
        await handler.CompletePullAsync(route.Verify == VerifyLevel.None ? null : true, cancellation);
        Send(new Message.PullDone());
    }

    public ValueTask DisposeAsync()
    {
        _faults?.Dispose();
        if (Broken is null)
        {
            _connection?.Close(this, new FabricError(ErrorCodes.Unreachable, "The destination closed the connection."));
            Break(new FabricError(ErrorCodes.Cancelled, "The transfer was disposed."));
        }

        return ValueTask.CompletedTask;
    }

    public override void Hear(Message message)
    {
        switch (message)
        {
            case Message.Terms m:
                _sourceResumes = m.Resume;
                _terms.TrySetResult(true);
                break;
            case Message.Pages m when !machine.Gone: Take(m); break;
            case Message.Barrier m: Send(new Message.BarrierReached(m.Number)); break;
            case Message.Finish m: _finish.TrySetResult(m); break;
            case Message.Token m: _token.TrySetResult(m.Epoch); break;
            case Message.Bye m:
                _connection!.Close(this, m.Error);
                Break(m.Error);
                _faults?.Dispose();
                break;
        }
    }

    /// <summary>True when pages are still to be pulled.</summary>
    private async Task<bool> TakeOverAsync(IIncomingHandler handler, CancellationToken cancellation)
    {
        var finish = await WithinAsync(_finish, Timeout.InfiniteTimeSpan, "The source's finish", cancellation);
        bool pull = finish.Missing is not null;
        try
        {
            if (finish.Missing is { } missing)
                BeginPull(missing);
            else if (finish.Digests is { } digests && Enumerable.Range(0, digests.Length).Any(p => machine.Version(p) != digests[p]))
                throw new FabricException(ErrorCodes.Corrupt, "The digests of memory differ.");
            await handler.LoadDeviceStateAsync(finish.State, pull ? HandOverKind.Pull : HandOverKind.Complete, cancellation);
        }
        catch (FabricException e)
        {
            throw Say(e.Error);
        }

        Send(new Message.Ready());
        var epoch = await WithinAsync(_token, Timeout.InfiniteTimeSpan, "The run token", cancellation);
        try
        {
            var running = await handler.AcceptTokenAsync(epoch, cancellation);
            Send(new Message.Running(running));
            return pull;
        }
        catch (FabricException e)
        {
            throw Say(e.Error);
        }
    }

    private void BeginPull(PageBitmap missing)
    {
        for (long page = missing.NextSet(0); page >= 0; page = missing.NextSet(page + 1))
            machine.Discard((int)page);
        if (!plane.World.Plants.On("untrapped-holes"))
            machine.Missing.CopyFrom(missing);
        machine.Sealed = true;
        ServeFaults();
    }

    private void Take(Message.Pages m)
    {
        _pages += m.Data.Count;
        foreach (var (page, version) in m.Data)
        {
            if (m.Pull)
                machine.Install(page, version);
            else if (!machine.Sealed)
                machine.Fill(page, version);
        }

        if (m.Pull)
            SeeArrived();
    }

    private void SeeArrived()
    {
        if (machine.Sealed && machine.Missing.IsEmpty)
            _arrived.TrySetResult(true);
    }

    /// <summary>Whom the guest waits for is asked for, again and again while this end lives; each page once per connection.</summary>
    private void ServeFaults() => _faults = Process.Clock.CreateTimer(
        _ =>
        {
            if (machine.Gone || Broken is not null || machine.Missing.IsEmpty)
            {
                _faults?.Dispose();
                return;
            }

            var wanted = machine.Wanted().Where(_asked.Add).ToList();
            if (wanted.Count > 0)
                Send(new Message.Want(wanted));
        },
        null,
        FaultPeriod,
        FaultPeriod);

    private void Send(Message message)
    {
        if (Broken is null)
            _connection!.ToSource.Send(message);
    }

    private FabricException Say(FabricError error)
    {
        Send(new Message.Bye(error));
        return new FabricException(error);
    }
}
