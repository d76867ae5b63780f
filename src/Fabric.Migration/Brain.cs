// The brain of a migration: from a durable state and what both hosts say, the next step. Pure: no I/O, no clock, no memory of its own; the same state and
// observation always give the same decision, so a supervisor that was born a moment ago goes on where its predecessor died.
//
//   Planned ──► Prepared ──► Pushing ──► Stopping ──────────────► Pulling ──► Cleanup ──► Completed
//      │           │            │          │   │ token-sent?         ▲ │
//      │           │            │          │   └────► TokenSent ─────┘ ├──► NeedsFencing ──► Recovering ──► Recovered
//      ▼           ▼            ▼          ▼             │             └──► Lost
//      └─────────► Aborting ◄───┴──────────┴─────────────┘  (only by the source's `withdrawn` or the destination's `refused`)
//                     └──► Failed, Aborted
//
// Three rules carry the safety (docs/PROTOCOL.md, section 2):
//   1. Commands follow only from durable states: a decision either writes or sends.
//   2. After HandOverIntended the only ways back are statements: the source's (withdrawn, or its answer to a cancel) or the destination's (refused).
//   3. Deadlines lead to questions. RefuseIncoming is a question whose answer is durable at the destination: refused, or accepted.
using Fabric.Core;

namespace Fabric.Migration;

public static partial class Brain
{
    /// <summary>The next step from <paramref name="state"/>, given what is known. Terminal states want nothing.</summary>
    public static Decision Decide(MigrationState state, Observation seen, MigrationTimings timings)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(seen);
        ArgumentNullException.ThrowIfNull(timings);
        if (state is not ActiveState active)
            return Decision.Wait();
        if (CatchUp(active, seen) is { } behind)
            return behind;
        if (seen.AbortReason is { } reason && AbortRefusal(active) is null && active is not Aborting)
            return Decision.Write(new AbortRequested(seen.Now, reason));
        var decision = active switch
        {
            Planned planned => Plan(planned, seen, timings),
            Prepared prepared => Begin(prepared, seen, timings),
            Pushing pushing => Push(pushing, seen, timings),
            Stopping stopping => Switch(stopping, seen, timings),
            TokenSent sent => Resolve(sent, seen, timings),
            Pulling pulling => Pull(pulling, seen, timings),
            Cleanup cleanup => Release(cleanup, seen, timings),
            Aborting aborting => Undo(aborting, seen, timings),
            NeedsFencing fencing => AwaitFence(fencing, seen),
            Recovering => Decision.Wait(), // driven by recovery, which writes RecoveryCompleted or VmLost
            _ => throw new InvalidOperationException($"No decision is written for the state '{state.Name}'."),
        };
        return seen.AbortReason is null ? decision : decision with { AbortRefused = AbortRefusal(active) };
    }

    /// <summary>Why an abort is refused in this state, or null when it is possible (or under way).</summary>
    public static FabricError? AbortRefusal(MigrationState state) => state switch
    {
        Stopping or TokenSent => new FabricError(
            ErrorCodes.RefusedBySafety,
            $"The migration is '{state.Name}': the run token may have left the source, so the source may not run the VM on its own word.",
            "Wait: it ends by itself, at the destination or back at the source."),
        Pulling or Cleanup => new FabricError(
            ErrorCodes.RefusedBySafety,
            $"The migration is '{state.Name}': the VM runs at the destination and its newest memory is there.",
            "Let it complete, then migrate the VM back."),
        NeedsFencing or Recovering => new FabricError(
            ErrorCodes.RefusedBySafety,
            $"The migration is '{state.Name}': the destination may run the VM and cannot be asked.",
            "Bring the destination host back, or prove that it is off."),
        TerminalState => new FabricError(ErrorCodes.Conflict, $"The migration is over: {state.Name}.", null),
        _ => null,
    };

    /// <summary>Phases that the destination enters only after it recorded the token.</summary>
    public static bool Accepted(DestinationPhase phase) =>
        phase is DestinationPhase.TokenAccepted or DestinationPhase.Pulling or DestinationPhase.PullBroken or DestinationPhase.Complete or DestinationPhase.Lost;

    private static bool Silent(HostView host, DateTimeOffset now, TimeSpan longerThan) =>
        host.UnreachableSince is { } since && now - since >= longerThan;

    private static DateTimeOffset? SilentAt(HostView host, TimeSpan longerThan) => host.UnreachableSince + longerThan;

    private static DateTimeOffset? Earlier(DateTimeOffset? one, DateTimeOffset? other) =>
        one is null ? other : other is null || one < other ? one : other;

    private static CommandHeader Header(MigrationPlan plan, Observation seen, MigrationStep step, int attempt, Epoch run) =>
        new(CommandIds.For(plan.Id, step, attempt), plan.Vm, seen.ShardEpoch, run, plan.Id);

    /// <summary>
    /// The step's next attempt: the first one, or the same again while no definite answer is there, or after an error and its back-off a new one.
    /// </summary>
    private static (int Attempt, DateTimeOffset? NotBefore) NextAttempt(Observation seen, MigrationStep step, MigrationTimings timings)
    {
        if (seen.Answer(step) is not { } answer)
            return (0, null);
        int doublings = Math.Min(answer.Attempt, 4);
        return (answer.Attempt + 1, answer.At + timings.Retry * (1 << doublings));
    }

    private static Decision Retry(Observation seen, MigrationStep step, MigrationTimings timings, Func<int, StepOrder> order, DateTimeOffset? until = null)
    {
        var (attempt, notBefore) = NextAttempt(seen, step, timings);
        return notBefore > seen.Now ? Decision.Wait(Earlier(notBefore, until)) : Decision.Send(order(attempt), until);
    }

    /// <summary>Both agents' numbers as one: the source counts what it sent, the destination what the guest felt.</summary>
    public static MigrationStats Merge(MigrationStats? source, MigrationStats? destination)
    {
        if (source is null || destination is null)
            return source ?? destination ?? new MigrationStats();
        return source with
        {
            TotalBytes = Math.Max(source.TotalBytes, destination.TotalBytes),
            ResumeMs = destination.ResumeMs ?? source.ResumeMs,
            DowntimeMs = source.DowntimeMs ?? destination.DowntimeMs,
            NetworkFaults = destination.NetworkFaults ?? source.NetworkFaults,
            MinorFaults = destination.MinorFaults ?? source.MinorFaults,
            FaultMedianUs = destination.FaultMedianUs ?? source.FaultMedianUs,
            FaultP99Us = destination.FaultP99Us ?? source.FaultP99Us,
            FaultStallMs = destination.FaultStallMs ?? source.FaultStallMs,
            FaultServiceUs = destination.FaultServiceUs ?? source.FaultServiceUs,
            Verified = source.Verified == false || destination.Verified == false ? false : destination.Verified ?? source.Verified,
        };
    }

    private static Outcome Numbers(MigrationPlan plan, Observation seen, MigrationMode? kind)
    {
        var source = seen.SourceFact(plan.Id);
        var destination = seen.DestinationFact(plan.Id);
        return new Outcome(
            Merge(source?.Stats ?? seen.SourceStats, destination?.Stats ?? seen.DestinationStats), DoneMode(plan, kind, source?.Mode));
    }

    /// <summary>What was done, never auto: the hand-over's kind decides, and a pull after rounds is hybrid.</summary>
    public static MigrationMode DoneMode(MigrationPlan plan, MigrationMode? kind, MigrationMode? reported)
    {
        ArgumentNullException.ThrowIfNull(plan);
        return (plan.Options.Mode, kind) switch
        {
            (MigrationMode.Auto, MigrationMode.PostCopy) => MigrationMode.Hybrid,
            (MigrationMode.Auto, _) => reported is { } named and not MigrationMode.Auto ? named : MigrationMode.PreCopy,
            var (asked, _) => asked,
        };
    }
}
