// One VM's balloon on this host: sets the target that it is told, keeps the guest's statistics fresh while a machine is there, and takes the guest's free memory: for a migration, or, where
// the VM asks for it, all the time (BalloonActor.Own.cs).
//
//      detached ◀──▶ attached ──TakeFree──▶ taking ──settled, or TakeLimit──▶ holding
//                        ▲                    │                                  │
//                        └──────GiveBack──────┴──────────────────────────────────┘
//
//      of a VM with a loop of its own:
//
//      detached ◀──▶ resting ◀──Direct──▶ keeping ──Direct(Watch)──▶ holding ──TakeFree──▶ taking ──▶ holding ──Direct──▶ keeping, resting
//
// What to take and when to give back is SelfBalloon's to decide; that it is owed is in the VM's ledger, and the VM's actor's to remember. Queries run beside the actor, one at a
// time: a guest in the middle of a hand-over answers late or not at all. Orders run in its turn, each with a deadline, so that they reach the hypervisor in the order in which
// they were decided.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Migration.Ballooning;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Balloon;

internal sealed partial class BalloonActor(BalloonMetrics metrics, Random random, ILogger logger) : Actor<BalloonMessage>
{
    /// <summary>Longest time that a push waits for memory to be taken: three reports of the guest and what it needs to follow.</summary>
    internal static readonly TimeSpan TakeLimit = TimeSpan.FromSeconds(4);

    private static readonly TimeSpan PollPeriod = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan TakingPeriod = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan HoldingPeriod = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan CallDeadline = TimeSpan.FromSeconds(2);

    private BalloonState _state = new BalloonState.Detached();
    private IDisposable? _poll;
    private bool _polling;
    private MayTake? _asked;

    protected override ValueTask StoppingAsync()
    {
        Stop();
        metrics.Held(-_held);
        return ValueTask.CompletedTask;
    }

    protected override async ValueTask ReceiveAsync(BalloonMessage message)
    {
        switch (message)
        {
            case MachineAttached m: OnAttached(m.Machine); break;
            case MachineDetached: OnDetached(); break;
            case SetTarget m: await OnSetTargetAsync(m); break;
            case MayTake m: OnMayTake(m); break;
            case TakeFree m: OnTakeFree(m); break;
            case GiveBack m: await OnGiveBackAsync(m); break;
            case Direct m: OnDirect(m); break;
            case Poll: OnTick(); break;
            case Polled m: await OnPolledAsync(m); break;
            case TakenLongEnough m: OnTakenLongEnough(m); break;
        }

        CountHeld();
    }

    private void OnAttached(IMachine machine)
    {
        OnDetached();
        if (machine.Balloon is null)
            return;
        if (machine.Spec.Balloon is not null)
        {
            _state = new BalloonState.Resting(machine, SelfBalloonState.Find(machine.Spec.MemoryBytes));
            return;
        }

        _state = new BalloonState.Attached(machine, null, null);
        PollEvery(PollPeriod);
    }

    private void OnDetached()
    {
        Enough();
        Stop();
        _state = new BalloonState.Detached();
        AnswerMayTake();
    }

    private async ValueTask OnSetTargetAsync(SetTarget m)
    {
        if (m.Machine.Balloon is not { } balloon)
            m.Reply.Fail(new FabricError(ErrorCodes.Unsupported, $"VM '{m.Machine.Spec.Name}' has no balloon."));
        else if (m.Bytes < ByteSize.Mebi || m.Bytes > m.Machine.Spec.MemoryBytes)
            m.Reply.Fail(new FabricError(ErrorCodes.InvalidArgument, $"A balloon target of {m.Bytes} bytes does not fit VM '{m.Machine.Spec.Name}'.", $"Use 1M to {ByteSize.Format(m.Machine.Spec.MemoryBytes)}."));
        else if (await OrderAsync(balloon, m.Bytes) is { } error)
            m.Reply.Fail(error);
        else
            m.Reply.Succeed(Remember(m.Machine, m.Bytes));
    }

    private bool Remember(IMachine machine, long target)
    {
        if (_state is BalloonState.Attached attached && ReferenceEquals(attached.Machine, machine))
            _state = attached with { Target = target };
        return true;
    }

    /// <summary>Looks first: a guest that booted, or arrived, a moment ago is not what the last look saw. Answered within the deadlines of two looks.</summary>
    private void OnMayTake(MayTake m)
    {
        AnswerMayTake(); // whoever asked before has given up
        _asked = m;
        if (_state is BalloonState.Attached or BalloonState.Keeping)
            OnPoll();
        else
            AnswerMayTake();
    }

    /// <summary>
    /// Only of a guest that has all of its memory, or whose own loop has the rest: a size that somebody set by hand is not ours to change, and what an earlier migration took is still on its
    /// way back.
    /// </summary>
    private void AnswerMayTake()
    {
        if (_asked is not { } m)
            return;
        _asked = null;
        string? why = _state switch
        {
            not BalloonState.Detached when !ReferenceEquals(MachineOf(_state), m.Machine) => "its machine has changed",
            BalloonState.Attached { Reading: { Statistics.Free: not null } } a => WhyNot(a.Machine.Spec.MemoryBytes, a.Target, a.Reading),
            BalloonState.Keeping { Reading: { Statistics.Free: not null } reading } => reading.DeflatesOnOom == true ? null : SelfBalloon.NoPromise,
            BalloonState.Attached or BalloonState.Keeping => "its guest has not reported its memory",
            BalloonState.Detached => "it has no balloon",
            _ => "its balloon is in use",
        };
        if (why is not null)
            LogNotTaken(m.Machine.Spec.Name.Value, why);
        m.Reply.Succeed(why is null);
    }

    private static string? WhyNot(long full, long? target, BalloonReading reading) =>
        reading.DeflatesOnOom != true ? SelfBalloon.NoPromise
        : reading.Actual < full - SelfBalloon.Slack || (target is { } asked && asked < full) ? "its balloon is not empty"
        : null;

    private void OnTakeFree(TakeFree m)
    {
        var loop = _state switch
        {
            BalloonState.Attached => SelfBalloonState.Begin(m.Machine.Spec.MemoryBytes),
            // Of a VM's own loop, which was told to watch before this, or will be.
            BalloonState.Holding or BalloonState.Keeping when IsOwn(m.Machine) => LoopOf(_state)! with { Above = long.MaxValue },
            _ => null,
        };
        if (loop is null || !ReferenceEquals(MachineOf(_state), m.Machine))
        {
            m.Reply.Succeed(0);
            return;
        }

        _state = new BalloonState.Taking(m.Machine, loop, m.Reply);
        PollEvery(TakingPeriod);
        Context.TellAfter(TakeLimit, new TakenLongEnough(m.Reply));
    }

    private void OnTakenLongEnough(TakenLongEnough m)
    {
        if (_state is BalloonState.Taking taking && ReferenceEquals(taking.Waiter, m.Waiter))
            Enough();
    }

    /// <summary>Ends the wait of the push, if one waits.</summary>
    private void Enough()
    {
        if (_state is not BalloonState.Taking taking)
            return;
        Answer(taking.Loop);
        _state = new BalloonState.Holding(taking.Machine, taking.Loop);
        PollEvery(HoldingPeriod);
    }

    /// <summary>Tells the push, if one waits, what there is.</summary>
    private void Answer(SelfBalloonState loop)
    {
        if (_state is not BalloonState.Taking taking)
            return;
        metrics.Taken(loop.Taken);
        LogTaken(taking.Machine.Spec.Name.Value, ByteSize.Format(loop.Taken));
        taking.Waiter.Succeed(loop.Taken);
    }

    private async ValueTask OnGiveBackAsync(GiveBack m)
    {
        if (m.Machine.Balloon is not { } balloon)
        {
            m.Reply.Fail(new FabricError(ErrorCodes.Unsupported, $"VM '{m.Machine.Spec.Name}' has no balloon."));
            return;
        }

        if (_state is BalloonState.Taking or BalloonState.Holding)
        {
            // Whether or not the guest can be told now, nothing more is taken from it.
            Enough();
            _state = new BalloonState.Attached(m.Machine, null, null);
            PollEvery(PollPeriod);
        }

        if (await OrderAsync(balloon, m.Bytes) is { } error)
            m.Reply.Fail(error);
        else
            m.Reply.Succeed(Remember(m.Machine, m.Bytes));
    }

    private void OnPoll()
    {
        if (_polling || MachineOf(_state) is not { Balloon: { } balloon } machine)
            return;
        _polling = true;
        bool ask = _asked is not null || _state is BalloonState.Keeping; // for the promise too, which nobody else needs
        Context.PipeToSelf<BalloonMessage>(
            async stopping =>
            {
                using var deadline = new CancellationTokenSource(CallDeadline, Context.Time);
                using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, stopping);
                // The statistics first: the size is at least as young as what they say of it.
                var statistics = await balloon.QueryStatisticsAsync(either.Token);
                long actual = await balloon.QueryActualAsync(either.Token);
                return new Polled(machine, new BalloonReading(actual, statistics, ask ? await balloon.QueryDeflatesOnOomAsync(either.Token) : null));
            },
            static polled => polled,
            _ => new Polled(machine, null));
    }

    private async ValueTask OnPolledAsync(Polled m)
    {
        _polling = false;
        bool current = ReferenceEquals(MachineOf(_state), m.Machine);
        if (current && _asked is not null && m.Reading is { DeflatesOnOom: null })
        {
            OnPoll(); // that look was under way when somebody asked
            return;
        }

        if (current && m.Reading is { } reading)
            await OnReadingAsync(m.Machine, reading);
        else if (current)
            _state = Unseen(_state);
        AnswerMayTake();
    }

    /// <summary>What it was is not what it is.</summary>
    private static BalloonState Unseen(BalloonState state) => state switch
    {
        BalloonState.Attached s => s with { Reading = null },
        BalloonState.Keeping s => s with { Reading = null },
        _ => state,
    };

    private async ValueTask OnReadingAsync(IMachine machine, BalloonReading reading)
    {
        switch (_state)
        {
            case BalloonState.Attached s:
                _state = s with { Reading = reading };
                break;
            case BalloonState.Taking s when await FollowAsync(machine, s.Loop, SelfBalloon.Take(SettingsOf(machine).Ahead(), s.Loop, reading.ForTheLoop, Now)) is { } decision:
                _state = s with { Loop = decision.Next };
                if (decision.Settled)
                    Enough();
                break;
            case BalloonState.Holding s when await FollowAsync(machine, s.Loop, SelfBalloon.Watch(SettingsOf(machine), s.Loop, reading.ForTheLoop, Now)) is { } decision:
                _state = s with { Loop = decision.Next };
                break;
            case BalloonState.Keeping s when reading.DeflatesOnOom is { } promised:
                _state = await KeepAsync(s, reading, promised);
                break;
        }
    }

    /// <summary>Null when the order did not reach the guest: the next look decides again, from where the last one stood.</summary>
    private async ValueTask<SelfBalloonDecision?> FollowAsync(IMachine machine, SelfBalloonState before, SelfBalloonDecision decision)
    {
        if (decision.Target is not { } target)
            return decision;
        LogTarget(machine.Spec.Name.Value, ByteSize.Format(before.Target), ByteSize.Format(target), decision.Reason);
        if (await OrderAsync(machine.Balloon!, target) is { } error)
        {
            LogNotTold(machine.Spec.Name.Value, error.ToString());
            return null;
        }

        if (decision.Pressure)
            metrics.Pressure();
        return decision;
    }

    /// <summary>In this actor's turn, one at a time.</summary>
    private async ValueTask<FabricError?> OrderAsync(IBalloon balloon, long bytes)
    {
        using var deadline = new CancellationTokenSource(CallDeadline, Context.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, Context.Stopping);
        try
        {
            await balloon.SetTargetAsync(bytes, either.Token);
            metrics.TargetSet();
            return null;
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException)
        {
            return MemoryActor.Describe(e);
        }
    }

    private TimeSpan Now => Context.Time.GetElapsedTime(0);

    private static IMachine? MachineOf(BalloonState state) => state switch
    {
        BalloonState.Attached s => s.Machine,
        BalloonState.Taking s => s.Machine,
        BalloonState.Holding s => s.Machine,
        BalloonState.Resting s => s.Machine,
        BalloonState.Keeping s => s.Machine,
        _ => null,
    };

    private void PollEvery(TimeSpan period)
    {
        Stop();
        _poll = Context.TellEvery(period, new Poll());
        OnPoll();
    }

    private void Stop()
    {
        _poll?.Dispose();
        _poll = null;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm} is moved with the memory that it has: {Why}")]
    private partial void LogNotTaken(string vm, string why);

    [LoggerMessage(Level = LogLevel.Information, Message = "The balloon of VM {Vm} holds {Taken} for its migration")]
    private partial void LogTaken(string vm, string taken);

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm} is asked to go from {Before} to {Target}: {Why}")]
    private partial void LogTarget(string vm, string before, string target, string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "VM {Vm} could not be told its size: {Error}")]
    private partial void LogNotTold(string vm, string error);
}
