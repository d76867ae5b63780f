// Aborting: the undos, last step first, each until its host confirms it. An undo that the VM does not depend on may be put off when the host is silent:
// the agent tidies up by itself, and a host that comes back is told again (the migration is over for it).
using Fabric.Core;

namespace Fabric.Migration;

public static partial class Brain
{
    private static Decision Undo(Aborting state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        return state.Remaining.Next switch
        {
            null => Decision.Write(new MigrationUndone(seen.Now, Numbers(plan, seen, null))),
            UndoStep.CancelOutgoing => UndoPush(state, seen, timings),
            UndoStep.RefuseIncoming => UndoPreparation(state, seen, timings),
            UndoStep.TakeBack => UndoHandOver(state, seen, timings),
            var unknown => throw new InvalidOperationException($"No undo is written for {unknown}."),
        };
    }

    private static Decision UndoPush(Aborting state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        var fact = seen.SourceFact(plan.Id);
        if (seen.Done(MigrationStep.Cancel) || fact is { Phase: SourcePhase.PushFailed or SourcePhase.Withdrawn })
            return Decision.Write(new UndoDone(seen.Now, UndoStep.CancelOutgoing));
        if (Excused(seen, MigrationStep.Cancel, seen.Source, timings) is { } excuse)
            return Decision.Write(new UndoDone(seen.Now, UndoStep.CancelOutgoing, excuse));
        return Retry(seen, MigrationStep.Cancel, timings, attempt => new StepOrder(
            MigrationStep.Cancel, attempt, plan.Source,
            new CancelOutgoing(Header(plan, seen, MigrationStep.Cancel, attempt, state.HighestEpoch), state.Cause.Message)), SilentAt(seen.Source, timings.Silence));
    }

    private static Decision UndoPreparation(Aborting state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (seen.Done(MigrationStep.Refuse) || seen.DestinationFact(plan.Id) is { Phase: DestinationPhase.Refused })
            return Decision.Write(new UndoDone(seen.Now, UndoStep.RefuseIncoming));
        if (Excused(seen, MigrationStep.Refuse, seen.Destination, timings) is { } excuse)
            return Decision.Write(new UndoDone(seen.Now, UndoStep.RefuseIncoming, excuse));
        return Retry(seen, MigrationStep.Refuse, timings, attempt => new StepOrder(
            MigrationStep.Refuse, attempt, plan.Destination,
            new RefuseIncoming(Header(plan, seen, MigrationStep.Refuse, attempt, state.HighestEpoch), state.Cause.Message)), SilentAt(seen.Destination, timings.Silence));
    }

    /// <summary>Never put off: until it is done nobody runs the VM.</summary>
    private static Decision UndoHandOver(Aborting state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        bool runsAgain = seen.Source is { Current: true, Vm: { Owner: true } vm } && vm.RunEpoch >= plan.TakeBackEpoch;
        if (seen.Done(MigrationStep.TakeBack) || runsAgain)
            return Decision.Write(new UndoDone(seen.Now, UndoStep.TakeBack));
        if (seen.Source is { Current: true, Vm.Owner: true })
            return StillOwner(state, seen, timings);
        if (seen.Answer(MigrationStep.TakeBack) is { Error: { Code: ErrorCodes.MachineFailed or ErrorCodes.Lost or ErrorCodes.NotFound } } dead)
            return Decision.Write(new VmLost(seen.Now, plan.Source, plan.TakeBackEpoch, dead.Error, Numbers(plan, seen, null)));
        return Retry(seen, MigrationStep.TakeBack, timings, attempt => new StepOrder(
            MigrationStep.TakeBack, attempt, plan.Source,
            new TakeBack(Header(plan, seen, MigrationStep.TakeBack, attempt, plan.TakeBackEpoch), plan.TokenEpoch)));
    }

    /// <summary>
    /// The source was silent when its token was taken for sent, and is back: it never gave the VM away. A push that still stands is cancelled, so that
    /// a hand-over command that comes late finds nothing; a hand-over under way withdraws by itself or becomes `token-sent`.
    /// </summary>
    private static Decision StillOwner(Aborting state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        switch (seen.SourceFact(plan.Id)?.Phase)
        {
            case SourcePhase.HandingOver:
                return Decision.Wait();
            case SourcePhase.Pushing or SourcePhase.Converged when !seen.Done(MigrationStep.Cancel):
                return Retry(seen, MigrationStep.Cancel, timings, attempt => new StepOrder(
                    MigrationStep.Cancel, attempt, plan.Source,
                    new CancelOutgoing(Header(plan, seen, MigrationStep.Cancel, attempt, plan.TokenEpoch), state.Cause.Message)));
            default:
                return Decision.Write(new UndoDone(seen.Now, UndoStep.TakeBack, "the source never gave the VM away"));
        }
    }

    /// <summary>Why an undo that only tidies up may be left to its host, or null.</summary>
    private static string? Excused(Observation seen, MigrationStep step, HostView host, MigrationTimings timings)
    {
        if (Silent(host, seen.Now, timings.Silence))
            return "the host does not answer; it is told when it comes back";
        return seen.Answer(step) is { Error: { } error } answer && answer.Attempt + 1 >= timings.UndoAttempts
            ? $"the host refuses: {Label.Shorten(error.Message)}"
            : null;
    }
}
