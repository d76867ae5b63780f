using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration.Ballooning;

namespace Fabric.Host.Balloon;

/// <summary>
/// The loop of a VM that asks for one (<see cref="VmSpec.Balloon"/>). Nobody is owed what it takes: whoever runs the VM runs the loop, and gives back what an earlier one took. What it may do
/// is the VM's actor's to say (<see cref="BalloonDuty"/>); before the first word it rests. A look that lies within an interval by chance, and each next one a little early or late, keep
/// hundreds of VMs on a host, whose loops all begin when their agent starts, from looking together.
/// </summary>
internal sealed partial class BalloonActor
{
    private long _held;

    private void OnDirect(Direct m)
    {
        if (LoopOf(_state) is not { } loop || !IsOwn(m.Machine))
            return;
        switch (m.Duty, _state)
        {
            case (BalloonDuty.Keep, not BalloonState.Keeping):
                Answer(loop);
                _state = new BalloonState.Keeping(m.Machine, loop, null);
                LookAfter(SettingsOf(m.Machine).First(random.NextDouble()));
                break;
            case (BalloonDuty.Watch, BalloonState.Resting or BalloonState.Keeping):
                _state = new BalloonState.Holding(m.Machine, loop);
                PollEvery(HoldingPeriod);
                break;
            case (BalloonDuty.Rest, not BalloonState.Resting):
                Answer(loop);
                _state = new BalloonState.Resting(m.Machine, loop);
                Stop();
                break;
        }
    }

    private async ValueTask<BalloonState> KeepAsync(BalloonState.Keeping state, BalloonReading reading, bool promised)
    {
        var decision = SelfBalloon.Keep(SettingsOf(state.Machine), state.Loop, reading.ForTheLoop, promised, Now);
        return await FollowAsync(state.Machine, state.Loop, decision) is { } followed ? state with { Loop = followed.Next, Reading = reading } : state with { Reading = reading };
    }

    /// <summary>The timer of a loop, once: the next look is this one's to arrange.</summary>
    private void LookAfter(TimeSpan delay)
    {
        Stop();
        _poll = Context.TellAfter(delay, new Poll());
    }

    private void OnTick()
    {
        if (_state is BalloonState.Keeping keeping)
            LookAfter(SettingsOf(keeping.Machine).Again(random.NextDouble()));
        OnPoll();
    }

    /// <summary>The gauge, after each turn, whatever it did.</summary>
    private void CountHeld()
    {
        long held = MachineOf(_state) is { Spec.Balloon: not null } ? LoopOf(_state)?.Taken ?? 0 : 0;
        if (held != _held)
            metrics.Held(held - _held);
        _held = held;
    }

    private bool IsOwn(IMachine machine) => ReferenceEquals(MachineOf(_state), machine) && machine.Spec.Balloon is not null;

    private static SelfBalloonSettings SettingsOf(IMachine machine) => SelfBalloonSettings.Of(machine.Spec.Balloon);

    private static SelfBalloonState? LoopOf(BalloonState state) => state switch
    {
        BalloonState.Taking s => s.Loop,
        BalloonState.Holding s => s.Loop,
        BalloonState.Resting s => s.Loop,
        BalloonState.Keeping s => s.Loop,
        _ => null,
    };
}
