// Planned, Prepared, Pushing: the source runs the VM; everything may still be given up.
using Fabric.Core;

namespace Fabric.Migration;

public static partial class Brain
{
    private static Decision Plan(Planned state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (Trouble(state, seen, timings) is { } trouble)
            return Fail(seen, trouble);
        if (seen.DestinationFact(plan.Id) is { Phase: DestinationPhase.Prepared } && seen.Destination is { Current: true, Data: { } data, Incarnation: { } life })
            return Decision.Write(new DestinationPrepared(seen.Now, new IncomingPlace(data, life)));
        if (Refused(seen, MigrationStep.Prepare) is { } refused)
            return Fail(seen, refused);
        return seen.Done(MigrationStep.Prepare)
            ? Decision.Wait(state.Since + timings.Prepare)
            : Ask(seen, MigrationStep.Prepare, timings,
                Order(seen, MigrationStep.Prepare, plan.Destination, attempt => new PrepareIncoming(
                    Header(plan, seen, MigrationStep.Prepare, attempt, plan.TokenEpoch), plan.Spec, plan.Source, plan.Ticket, plan.Options, plan.Limits)),
                state.Since + timings.Prepare);
    }

    private static Decision Begin(Prepared state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (Trouble(state, seen, timings) is { } trouble)
            return Fail(seen, trouble);
        if (seen.SourceFact(plan.Id) is { } source)
        {
            return source.Phase is SourcePhase.PushFailed or SourcePhase.Withdrawn
                ? Fail(seen, PushError(source))
                : Decision.Write(new PushStarted(seen.Now));
        }

        if (Refused(seen, MigrationStep.Push) is { } refused)
            return Fail(seen, refused);
        return seen.Done(MigrationStep.Push)
            ? Decision.Wait(state.Since + timings.Prepare)
            : Ask(seen, MigrationStep.Push, timings,
                Order(seen, MigrationStep.Push, plan.Source, attempt => new StartPush(
                    Header(plan, seen, MigrationStep.Push, attempt, plan.RunEpoch), plan.Destination, state.Place.Endpoint, plan.Ticket, plan.Options, plan.Limits)),
                state.Since + timings.Prepare);
    }

    private static Decision Push(Pushing state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (Trouble(state, seen, timings) is { } trouble)
            return Fail(seen, trouble);
        var wake = Earlier(SilentAt(seen.Source, timings.Silence), SilentAt(seen.Destination, timings.Silence));
        if (!seen.Source.Current)
            return Decision.Wait(wake);
        switch (seen.SourceFact(plan.Id))
        {
            case null:
                return Fail(seen, new FabricError(ErrorCodes.Lost, $"The agent of '{plan.Source}' no longer knows this migration.", "The VM runs on there; start the migration again."));
            case { Phase: SourcePhase.PushFailed or SourcePhase.Withdrawn } failed:
                return Fail(seen, PushError(failed));
            case { Phase: SourcePhase.Converged } converged:
                // Not while the destination cannot say that it still waits; the source goes on with its rounds meanwhile.
                return seen.Destination.Current && seen.DestinationFact(plan.Id) is { Phase: DestinationPhase.Prepared or DestinationPhase.Ready }
                    ? Decision.Write(new HandOverIntended(seen.Now, plan.TokenEpoch, HandOverKind(plan.Options.Mode, converged.Mode), converged.Why))
                    : Decision.Wait(wake);
            default:
                return Decision.Wait(wake);
        }
    }

    /// <summary>Which hand-over a mode ends in; for auto the source says what its rounds showed.</summary>
    private static MigrationMode HandOverKind(MigrationMode asked, MigrationMode reported) => (asked, reported) switch
    {
        (MigrationMode.PreCopy, _) => MigrationMode.PreCopy,
        (MigrationMode.PostCopy or MigrationMode.Hybrid, _) => MigrationMode.PostCopy,
        (_, MigrationMode.Hybrid or MigrationMode.PostCopy) => MigrationMode.PostCopy,
        _ => MigrationMode.PreCopy,
    };

    /// <summary>What ends any phase before the hand-over: a destination that gave up, a VM that is gone, a host that stays silent.</summary>
    private static FabricError? Trouble(ActiveState state, Observation seen, MigrationTimings timings)
    {
        var plan = state.Plan;
        if (seen.DestinationFact(plan.Id) is { Phase: DestinationPhase.Refused } refused)
            return refused.Error ?? new FabricError(ErrorCodes.Cancelled, $"'{plan.Destination}' gave up the incoming machine.", "Its agent was restarted or its machine ended; try again.");
        if (state is Prepared { Place: var prepared } && LeftBehind(prepared, seen, plan))
            return GoneAt(plan);
        if (state is Pushing { Place: var pushed } && LeftBehind(pushed, seen, plan))
            return GoneAt(plan);
        if (seen.Source.Current && seen.Source.Vm is not { Owner: true, State: not VmRunState.Exited })
            return new FabricError(ErrorCodes.MachineFailed, $"VM '{plan.Vm}' does not run at '{plan.Source}' any more.", "There is nothing to move: fabric vm show " + plan.Vm);
        if (Silent(seen.Source, seen.Now, timings.Silence))
            return Unreachable(plan.Source);
        if (Silent(seen.Destination, seen.Now, timings.Silence))
            return Unreachable(plan.Destination);
        if (state is not (Planned or Prepared))
            return null;
        var step = state is Planned ? MigrationStep.Prepare : MigrationStep.Push;
        if (IsBusy(seen, step))
            return seen.Now - state.Since >= timings.Place ? seen.Answer(step)!.Error : null;
        return seen.Now - state.Since >= timings.Prepare
            ? new FabricError(ErrorCodes.DeadlineExceeded, $"The migration stayed '{state.Name}' for {timings.Prepare.TotalSeconds:0} s.", "See the agents' logs on both hosts.")
            : null;
    }

    /// <summary>The destination's agent lives another life and does not know the machine that the one before prepared.</summary>
    private static bool LeftBehind(IncomingPlace place, Observation seen, MigrationPlan plan) =>
        seen.Destination.Current && seen.Destination.Incarnation != place.Incarnation && seen.DestinationFact(plan.Id) is null;

    private static FabricError GoneAt(MigrationPlan plan) =>
        new(ErrorCodes.Lost, $"The agent of '{plan.Destination}' was restarted and its incoming machine is gone.", "Start the migration again.");

    private static FabricError Unreachable(HostName host) =>
        new(ErrorCodes.Unreachable, $"Host '{host}' did not answer.", $"Is its agent running? fabric host show {host}");

    private static FabricError PushError(SourceFact fact) =>
        fact.Error ?? new FabricError(ErrorCodes.Lost, "The push ended early and the source did not say why.", "See the agent's log at the source.");

    /// <summary>
    /// A definite answer that a forward step will not be done. An answer about epochs is not one: it may be an earlier supervisor's, so it is
    /// asked a few times under new ids before it counts.
    /// </summary>
    private static FabricError? Refused(Observation seen, MigrationStep step) =>
        seen.Answer(step) is { Error: { } error } answer && error.Code != ErrorCodes.Busy && (error.Code != ErrorCodes.RefusedByEpoch || answer.Attempt >= 3) ? error : null;

    /// <summary>The host has as many moves as the limits allow: this one waits for one of them to end.</summary>
    private static bool IsBusy(Observation seen, MigrationStep step) => seen.Answer(step) is { Error.Code: ErrorCodes.Busy };

    /// <summary>Sends the order, but to a host that was busy not before a pause.</summary>
    private static Decision Ask(Observation seen, MigrationStep step, MigrationTimings timings, StepOrder order, DateTimeOffset until)
    {
        if (!IsBusy(seen, step))
            return Decision.Send(order, until);
        var again = seen.Answer(step)!.At + timings.Busy;
        return again > seen.Now ? Decision.Wait(again) : Decision.Send(order);
    }

    private static StepOrder Order(Observation seen, MigrationStep step, HostName host, Func<int, AgentCommand> command)
    {
        int attempt = seen.Answer(step) is { } answer ? answer.Attempt + 1 : 0;
        return new StepOrder(step, attempt, host, command(attempt));
    }

    private static Decision Fail(Observation seen, FabricError cause) => Decision.Write(new StepFailed(seen.Now, cause));
}
