using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Host.Vm;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Memory;

/// <summary>The destination half: the door for the source, the stream that comes through it.</summary>
internal sealed partial class MemoryActor
{
    private void OnExpectIncoming(ExpectIncoming m)
    {
        LeaveIncoming();
        IIncomingDoor? door = null;
        try
        {
            door = plane.Expect(m.Route, m.Machine.Memory);
            StartProgress();
            Receive(m.Route, m.Machine, door, before: null);
            m.Reply.Succeed(true);
        }
        catch (FabricException e)
        {
            door?.Dispose();
            m.Reply.Fail(e.Error);
        }
    }

    private void Receive(IncomingRoute route, IMachine machine, IIncomingDoor door, MigrationStats? before)
    {
        var transfer = door.Next();
        _incoming = new IncomingState.Receiving(route, machine, door, transfer, Broken: before is not null, before);
        var handler = new IncomingHandler(machine, route.Migration, vm, Context.Time);
        Context.PipeToSelf<MemoryMessage>(
            async stopping =>
            {
                await transfer.RunAsync(handler, stopping);
                return new IncomingFinished(transfer, null);
            },
            static finished => finished,
            error => new IncomingFinished(transfer, error));
    }

    private void OnIncomingFinished(IncomingFinished m)
    {
        if (_incoming is not IncomingState.Receiving s || !ReferenceEquals(s.Transfer, m.Transfer))
            return;
        OnReportProgress();
        if (m.Error is null)
        {
            LeaveIncoming();
        }
        else
        {
            metrics.Broke();
            logger.LogWarning("The incoming stream of migration {Migration} broke: {Error}", s.Route.Migration, m.Error);
            _incoming = new IncomingState.Closing(s.Route, s.Machine, s.Door, s.Transfer, s.Transfer.Snapshot().After(s.Before));
            var migration = s.Route.Migration;
            // A broken link is taken up at once. Anything else (a ledger that cannot be written) would fail again and again without a pause.
            var pause = m.Error.Code == ErrorCodes.Unreachable ? TimeSpan.Zero : Backoff(4);
            Context.PipeToSelf<MemoryMessage>(
                async stopping =>
                {
                    await s.Transfer.DisposeAsync();
                    await Task.Delay(pause, Context.Time, stopping);
                    return new ReceiveAgain(migration);
                },
                static again => again,
                _ => new ReceiveAgain(migration));
        }

        vm.TryTell(new IncomingEnded(s.Route.Migration, m.Error));
    }

    /// <summary>If the VM's actor has not closed the door meanwhile, the VM runs here and waits for the rest.</summary>
    private void OnReceiveAgain(ReceiveAgain m)
    {
        if (_incoming is not IncomingState.Closing s || s.Route.Migration != m.Migration)
            return;
        try
        {
            Receive(s.Route, s.Machine, s.Door, s.Before);
        }
        catch (FabricException e)
        {
            logger.LogError("The pull of migration {Migration} cannot be taken up: {Error}", m.Migration, e.Error);
            Context.TellAfter(Backoff(4), m);
        }
    }

    private void LeaveIncoming()
    {
        switch (_incoming)
        {
            case IncomingState.Receiving s: ReleaseBeside(s.Transfer, s.Door); break;
            case IncomingState.Closing s: ReleaseBeside(s.Transfer, s.Door); break;
        }

        _incoming = new IncomingState.None();
    }
}

/// <summary>What the stream asks of the host: the machine takes its state at once, the token goes through the VM's actor.</summary>
internal sealed class IncomingHandler(IMachine machine, MigrationId migration, IActorRef<VmMessage> vm, TimeProvider time) : IIncomingHandler
{
    /// <summary>Longest wait for the ledger and the machine once the token is here.</summary>
    private static readonly TimeSpan AcceptDeadline = TimeSpan.FromSeconds(30);

    public async Task LoadDeviceStateAsync(ReadOnlyMemory<byte> state, HandOverKind kind, CancellationToken cancellation)
    {
        await machine.LoadDeviceStateAsync(state, cancellation);
        vm.TryTell(new IncomingReady(migration, kind));
    }

    public async Task<TimeSpan> AcceptTokenAsync(Epoch epoch, CancellationToken cancellation)
    {
        long began = time.GetTimestamp();
        await vm.AskAsync<VmMessage, bool>(reply => new TokenArrived(migration, epoch, reply), AcceptDeadline, time, cancellation);
        return machine.RunsSince is { } since && since >= began ? time.GetElapsedTime(since) : TimeSpan.Zero;
    }

    public async Task CompletePullAsync(bool? verified, CancellationToken cancellation) =>
        await vm.AskAsync<VmMessage, bool>(reply => new PullArrived(migration, verified, reply), AcceptDeadline, time, cancellation);
}
