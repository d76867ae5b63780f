// One VM's balloon on this host: sets the target that it is told, and keeps the guest's statistics fresh while a machine is there.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Memory;
using Fabric.Machines;

namespace Fabric.Host.Balloon;

internal sealed class BalloonActor(BalloonMetrics metrics) : Actor<BalloonMessage>
{
    private static readonly TimeSpan PollPeriod = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan PollDeadline = TimeSpan.FromSeconds(2);

    private BalloonState _state = new BalloonState.Detached();
    private IDisposable? _poll;

    protected override ValueTask StoppingAsync()
    {
        _poll?.Dispose();
        return ValueTask.CompletedTask;
    }

    protected override async ValueTask ReceiveAsync(BalloonMessage message)
    {
        switch (message)
        {
            case MachineAttached m: OnAttached(m.Machine); break;
            case MachineDetached: OnDetached(); break;
            case SetTarget m: await OnSetTargetAsync(m); break;
            case Poll: OnPoll(); break;
            case Polled m: OnPolled(m); break;
        }
    }

    private void OnAttached(IMachine machine)
    {
        OnDetached();
        if (machine.Balloon is null)
            return;
        _state = new BalloonState.Attached(machine, null, null);
        _poll = Context.TellEvery(PollPeriod, new Poll());
    }

    private void OnDetached()
    {
        _poll?.Dispose();
        _poll = null;
        _state = new BalloonState.Detached();
    }

    private async ValueTask OnSetTargetAsync(SetTarget m)
    {
        try
        {
            if (m.Machine.Balloon is not { } balloon)
                throw new FabricException(ErrorCodes.Unsupported, $"VM '{m.Machine.Spec.Name}' has no balloon.");
            if (m.Bytes < ByteSize.Mebi || m.Bytes > m.Machine.Spec.MemoryBytes)
                throw new FabricException(ErrorCodes.InvalidArgument, $"A balloon target of {m.Bytes} bytes does not fit VM '{m.Machine.Spec.Name}'.", $"Use 1M to {ByteSize.Format(m.Machine.Spec.MemoryBytes)}.");
            await balloon.SetTargetAsync(m.Bytes, Context.Stopping);
            metrics.TargetSet();
            if (_state is BalloonState.Attached attached)
                _state = attached with { Target = m.Bytes };
            m.Reply.Succeed(true);
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException)
        {
            m.Reply.Fail(MemoryActor.Describe(e));
        }
    }

    /// <summary>Asked beside the actor: a guest in the middle of a hand-over answers late or not at all, and nothing waits for it.</summary>
    private void OnPoll()
    {
        if (_state is not BalloonState.Attached { Machine: { Balloon: { } balloon } machine })
            return;
        Context.PipeToSelf<BalloonMessage>(
            async stopping =>
            {
                using var deadline = new CancellationTokenSource(PollDeadline, Context.Time);
                using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, stopping);
                long actual = await balloon.QueryActualAsync(either.Token);
                return new Polled(machine, new BalloonReading(actual, await balloon.QueryStatisticsAsync(either.Token)));
            },
            static polled => polled,
            _ => new Polled(machine, null));
    }

    private void OnPolled(Polled m)
    {
        if (_state is BalloonState.Attached attached && ReferenceEquals(attached.Machine, m.Machine) && m.Reading is { } reading)
            _state = attached with { Reading = reading };
    }
}
