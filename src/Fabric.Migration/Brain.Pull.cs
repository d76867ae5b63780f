// Pulling, Cleanup, NeedsFencing: the destination runs the VM, or may.
using Fabric.Core;

namespace Fabric.Migration;

public static partial class Brain
{
    private static Decision Pull(Pulling state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (Silent(seen.Destination, seen.Now, timings.Fencing))
            return Decision.Write(new FencingNeeded(seen.Now, $"'{plan.Destination}' runs the VM and does not answer"));
        var wake = SilentAt(seen.Destination, timings.Fencing);
        if (!seen.Destination.Current)
            return Decision.Wait(wake);
        switch (seen.DestinationFact(plan.Id))
        {
            case { Phase: DestinationPhase.Complete }:
                return Decision.Write(new PullCompleted(seen.Now, Numbers(plan, seen, state.Kind)));
            case { Phase: DestinationPhase.Lost } lost:
                return Decision.Write(Lose(plan, seen, state.Kind, lost.Error ?? new FabricError(
                    ErrorCodes.Lost, $"VM '{plan.Vm}' ended at '{plan.Destination}' before all of its memory had arrived.", $"Remove what is left: fabric vm delete {plan.Vm} --force")));
            case { Phase: DestinationPhase.PullBroken }:
                return Reconnect(state, seen, timings);
            case null when seen.SourceFact(plan.Id) is { Phase: SourcePhase.Drained or SourcePhase.Released }:
                return Decision.Write(new PullCompleted(seen.Now, Numbers(plan, seen, state.Kind))); // the destination said so, durably, to the source
            case null when seen.Now - state.Since >= timings.SourceGone && seen.Destination.Vm is null:
                return Decision.Write(Lose(plan, seen, state.Kind, new FabricError(
                    ErrorCodes.Lost, $"The agent of '{plan.Destination}' knows nothing of VM '{plan.Vm}', which it ran.", "Its state directory was lost or replaced.")));
            case null:
                return Decision.Wait(Earlier(wake, state.Since + timings.SourceGone));
            default:
                return Decision.Wait(wake);
        }
    }

    /// <summary>Both sides keep their half; the source is asked to connect again, to where the destination listens now.</summary>
    private static Decision Reconnect(Pulling state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (!seen.Source.Current || seen.Destination.Data is not { } endpoint)
            return Decision.Wait(); // pages are at a silent host: the VM waits where it needs one
        // Only the source's definite word counts: an agent that was just started answers "ask again" before it has its machine back.
        bool sourceHasNothing = seen.SourceFact(plan.Id) is null || seen.Source.Vm is { State: VmRunState.Exited };
        if (sourceHasNothing && seen.Now - state.Since >= timings.SourceGone && seen.Answer(MigrationStep.ServePull) is { Error.Code: ErrorCodes.Lost or ErrorCodes.NotFound } gone)
        {
            // What the destination said before that may be old: its last page can have come meanwhile.
            if (seen.Destination.AskedAt is not { } asked || asked < gone.At)
                return Decision.Wait(seen.Now + timings.Retry);
            return Decision.Write(Lose(plan, seen, state.Kind, new FabricError(
                ErrorCodes.Lost, $"'{plan.Source}' no longer holds the pages that VM '{plan.Vm}' still needs.", $"Remove what is left: fabric vm delete {plan.Vm} --force")));
        }

        return Retry(seen, MigrationStep.ServePull, timings, attempt => new StepOrder(
            MigrationStep.ServePull, attempt, plan.Source,
            new ServePull(Header(plan, seen, MigrationStep.ServePull, attempt, plan.TokenEpoch), endpoint, plan.Ticket)));
    }

    private static Decision Release(Cleanup state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        bool gone = seen.SourceFact(plan.Id) is { Phase: SourcePhase.Released } || seen.Answer(MigrationStep.Release) is { Error.Code: ErrorCodes.NotFound };
        if (seen.Done(MigrationStep.Release) || gone)
            return Decision.Write(new SourceReleased(seen.Now, FinalNumbers(state, seen)));
        if (Silent(seen.Source, seen.Now, timings.Silence))
            return Decision.Write(new SourceReleased(seen.Now, FinalNumbers(state, seen), Deferred: true));
        // The source's last numbers come with `drained`; a source that never hears of it is released all the same.
        var drainedBy = state.Since + timings.Drain;
        if (seen.SourceFact(plan.Id) is { Phase: not (SourcePhase.Drained or SourcePhase.Released) } && seen.Source.Current && seen.Now < drainedBy)
            return Decision.Wait(drainedBy);
        return Retry(seen, MigrationStep.Release, timings, attempt => new StepOrder(
            MigrationStep.Release, attempt, plan.Source,
            new ReleaseSource(Header(plan, seen, MigrationStep.Release, attempt, plan.TokenEpoch))), SilentAt(seen.Source, timings.Silence));
    }

    /// <summary>A source that is gone already said its numbers before: they are in the state.</summary>
    private static Outcome FinalNumbers(Cleanup state, Observation seen)
    {
        var source = seen.SourceFact(state.Plan.Id)?.Stats ?? seen.SourceStats ?? state.Outcome.Stats;
        var destination = seen.DestinationFact(state.Plan.Id)?.Stats ?? seen.DestinationStats;
        return state.Outcome with { Stats = Merge(source, destination) };
    }

    private static Decision AwaitFence(NeedsFencing state, Observation seen) =>
        seen.Destination.Current ? Decision.Write(new DestinationReturned(seen.Now)) : Decision.Wait();

    private static VmLost Lose(MigrationPlan plan, Observation seen, MigrationMode kind, FabricError cause) =>
        new(seen.Now, plan.Destination, plan.TokenEpoch, cause, Numbers(plan, seen, kind));
}
