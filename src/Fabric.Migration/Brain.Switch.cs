// Stopping and TokenSent: the minutes that matter last milliseconds. Every row of the crash table in docs/PROTOCOL.md, section 2, is a branch here
// and a test in tests/Fabric.Unit/Migration/CrashTableTests.cs.
using Fabric.Core;

namespace Fabric.Migration;

public static partial class Brain
{
    private static Decision Switch(Stopping state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (TookBack(plan, seen))
            return Decision.Write(new TokenOutcomeUnknown(seen.Now)); // the journal has forgotten how it went
        if (Settled(state, seen) is { } settled)
            return settled;
        var source = seen.SourceFact(plan.Id);
        if (source is { Phase: SourcePhase.TokenSent })
            return Decision.Write(new TokenOutcomeUnknown(seen.Now));
        if (Silent(seen.Source, seen.Now, timings.HandOver))
        {
            // Whether the token left is written only in the source's ledger, and the source is silent: the destination will be asked.
            return Decision.Write(new TokenOutcomeUnknown(seen.Now));
        }

        var wake = SilentAt(seen.Source, timings.HandOver);
        if (source is { Phase: SourcePhase.HandingOver })
            return Decision.Wait(wake); // its own deadline ends this phase
        bool pushIsGone = seen.Source.Current && source is null or { Phase: SourcePhase.PushFailed };
        bool destinationGaveUp = seen.DestinationFact(plan.Id) is { Phase: DestinationPhase.Refused };
        if (pushIsGone || destinationGaveUp || Refused(seen, MigrationStep.HandOver) is not null)
            return WithdrawOrLearn(state, seen, timings);
        if (seen.Done(MigrationStep.HandOver))
            return Decision.Wait(wake);
        return Decision.Send(
            Order(seen, MigrationStep.HandOver, plan.Source, attempt => new HandOver(
                Header(plan, seen, MigrationStep.HandOver, attempt, plan.TokenEpoch), state.Kind)),
            wake);
    }

    /// <summary>
    /// The hand-over will not happen, as far as can be seen. The source is asked to cancel: yes means that the token did not and will not
    /// leave; no means that it may have left.
    /// </summary>
    private static Decision WithdrawOrLearn(Stopping state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (seen.Answer(MigrationStep.Cancel) is { } answer)
        {
            if (answer.Error is null)
                return Decision.Write(new HandOverWithdrawn(seen.Now, WhyWithdrawn(plan, seen)));
            if (answer.Error.Code is ErrorCodes.RefusedBySafety or ErrorCodes.Conflict)
                return Decision.Write(new TokenOutcomeUnknown(seen.Now));
        }

        return Retry(seen, MigrationStep.Cancel, timings, attempt => new StepOrder(
            MigrationStep.Cancel, attempt, plan.Source,
            new CancelOutgoing(Header(plan, seen, MigrationStep.Cancel, attempt, plan.TokenEpoch), "the hand-over was not begun")), SilentAt(seen.Source, timings.HandOver));
    }

    private static Decision Resolve(TokenSent state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (TookBack(plan, seen))
            return Decision.Write(new TakeBackIntended(seen.Now, plan.TakeBackEpoch, plan.TokenEpoch, WhyRefused(plan, seen)));
        if (Settled(state, seen) is { } settled)
            return settled;
        bool refused = seen.DestinationFact(plan.Id) is { Phase: DestinationPhase.Refused } || seen.Done(MigrationStep.Refuse);
        if (refused)
        {
            // A source that is still handing over may yet withdraw by itself; a silent one is told at e+2 when it comes back.
            return seen.SourceFact(plan.Id) is { Phase: SourcePhase.HandingOver } && seen.Source.Current
                ? Decision.Wait(SilentAt(seen.Source, timings.HandOver))
                : Decision.Write(new TakeBackIntended(seen.Now, plan.TakeBackEpoch, plan.TokenEpoch, WhyRefused(plan, seen)));
        }

        if (Silent(seen.Destination, seen.Now, timings.Fencing))
            return Decision.Write(new FencingNeeded(seen.Now, $"'{plan.Destination}' may have accepted the token and does not answer"));
        var ask = state.Since + timings.TokenOutcome;
        bool anotherLife = (seen.Destination.Current && seen.Destination.Incarnation != state.Place.Incarnation) || seen.Source.UnreachableSince is not null;
        if (seen.Now < ask && !anotherLife)
            return Decision.Wait(ask);
        return Retry(seen, MigrationStep.Refuse, timings, attempt => new StepOrder(
            MigrationStep.Refuse, attempt, plan.Destination,
            new RefuseIncoming(Header(plan, seen, MigrationStep.Refuse, attempt, plan.TokenEpoch), "the outcome of the hand-over is unknown")),
            SilentAt(seen.Destination, timings.Fencing));
    }

    /// <summary>The statements that end the switch-over, whatever phase we believed in.</summary>
    private static Decision? Settled(ActiveState state, Observation seen)
    {
        var plan = state.Plan;
        bool destinationAccepted = seen.DestinationFact(plan.Id) is { } destination && Accepted(destination.Phase);
        var source = seen.SourceFact(plan.Id);
        if (destinationAccepted || source is { Phase: SourcePhase.HandedOver or SourcePhase.Drained or SourcePhase.Released })
            return Decision.Write(new HandedOver(seen.Now, plan.TokenEpoch));
        return source is { Phase: SourcePhase.Withdrawn }
            ? Decision.Write(new HandOverWithdrawn(seen.Now, source.Error ?? WhyWithdrawn(plan, seen)))
            : null;
    }

    private static FabricError WhyWithdrawn(MigrationPlan plan, Observation seen) =>
        seen.SourceFact(plan.Id)?.Error
        ?? seen.DestinationFact(plan.Id)?.Error
        ?? seen.Answer(MigrationStep.HandOver)?.Error
        ?? new FabricError(ErrorCodes.Cancelled, $"'{plan.Source}' called the hand-over off before the token left.", "The VM runs on there; start the migration again.");

    private static FabricError WhyRefused(MigrationPlan plan, Observation seen) =>
        seen.DestinationFact(plan.Id)?.Error
        ?? seen.SourceFact(plan.Id)?.Error
        ?? new FabricError(ErrorCodes.Cancelled, $"'{plan.Destination}' never accepted the run token.", "The VM runs at the source again; start the migration again.");
}
