using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Vm;
using Fabric.Machines;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Memory;

/// <summary>The destination half: the door for the source, the stream that comes through it.</summary>
internal sealed partial class MemoryActor
{
    private void OnExpectIncoming(ExpectIncoming m)
    {
        LeaveIncoming();
        var self = Context.Self;
        try
        {
            var door = plane.Expect(m.Route, m.Machine.Memory, transfer => Admit(self, m.Route.Migration, transfer));
            _incoming = new IncomingState.Expecting(m.Route, m.Machine, door, Broken: false);
            StartProgress();
            m.Reply.Succeed(true);
        }
        catch (FabricException e)
        {
            m.Reply.Fail(e.Error);
        }
    }

    /// <summary>Called by the data plane on its own thread. A stream that nobody can take is closed.</summary>
    private void Admit(IActorRef<MemoryMessage> self, MigrationId migration, IIncomingTransfer transfer)
    {
        if (!self.TryTell(new SourceConnected(migration, transfer)))
            ReleaseBeside(transfer);
    }

    private void OnSourceConnected(SourceConnected m)
    {
        switch (_incoming)
        {
            case IncomingState.Expecting s when s.Route.Migration == m.Migration:
                if (s.Broken)
                    vm.TryTell(new PullResumed(m.Migration));
                Receive(new IncomingState.Receiving(s.Route, s.Machine, s.Door, m.Transfer));
                break;
            case IncomingState.Receiving s when s.Route.Migration == m.Migration:
                // The same ticket again: the source gave the old stream up before this end noticed.
                ReleaseBeside(s.Transfer);
                Receive(s with { Transfer = m.Transfer });
                break;
            default:
                ReleaseBeside(m.Transfer);
                break;
        }
    }

    private void Receive(IncomingState.Receiving receiving)
    {
        _incoming = receiving;
        var transfer = receiving.Transfer;
        var handler = new IncomingHandler(receiving.Machine, receiving.Route.Migration, vm, Context.Time);
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
            ReleaseBeside(s.Transfer);
            _incoming = new IncomingState.Expecting(s.Route, s.Machine, s.Door, Broken: true);
        }

        vm.TryTell(new IncomingEnded(s.Route.Migration, m.Error));
    }

    private void LeaveIncoming()
    {
        (_incoming as IncomingState.Expecting)?.Door.Dispose();
        if (_incoming is IncomingState.Receiving s)
        {
            s.Door.Dispose();
            ReleaseBeside(s.Transfer);
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

    public async Task AcceptTokenAsync(Epoch epoch, CancellationToken cancellation) =>
        await vm.AskAsync<VmMessage, bool>(reply => new TokenArrived(migration, epoch, reply), AcceptDeadline, time, cancellation);

    public async Task CompletePullAsync(bool? verified, CancellationToken cancellation) =>
        await vm.AskAsync<VmMessage, bool>(reply => new PullArrived(migration, verified, reply), AcceptDeadline, time, cancellation);
}
