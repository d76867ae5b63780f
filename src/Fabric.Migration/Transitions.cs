// The state machine of a migration: every legal (state, event) pair, once. A pair that is not listed is rejected as an error value:
// nothing is forwarded, nothing is ignored.
using System.Collections.Frozen;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>A state, or why there is none.</summary>
public readonly record struct Transition(MigrationState? State, FabricError? Error);

public static class Transitions
{
    private static readonly FrozenDictionary<(Type State, Type Event), Func<MigrationState, MigrationEvent, MigrationState?>> Table = Build(
        // A beginning
        Row<Unborn, MigrationPlanned>((_, e) => new Planned(e.Plan, e.At)),

        // Push. The source runs the VM.
        Row<Planned, DestinationPrepared>((s, e) => new Prepared(s.Plan, e.At, e.Place)),
        Row<Planned, AbortRequested>((s, e) => GiveUp(s, e)),
        Row<Planned, StepFailed>((s, e) => GiveUp(s, e)),
        Row<Prepared, PushStarted>((s, e) => new Pushing(s.Plan, e.At, s.Place)),
        Row<Prepared, AbortRequested>((s, e) => GiveUp(s, e)),
        Row<Prepared, StepFailed>((s, e) => GiveUp(s, e)),
        Row<Pushing, HandOverIntended>((s, e) => e.Epoch == s.Plan.TokenEpoch ? new Stopping(s.Plan, e.At, s.Place, e.Kind) : null),
        Row<Pushing, AbortRequested>((s, e) => GiveUp(s, e)),
        Row<Pushing, StepFailed>((s, e) => GiveUp(s, e)),

        // The journal lost its last events, in which the hand-over was intended. The hosts know of it.
        Row<Planned, HandOverFound>((s, e) => Found(s, e)),
        Row<Prepared, HandOverFound>((s, e) => Found(s, e)),
        Row<Pushing, HandOverFound>((s, e) => Found(s, e)),
        Row<Aborting, HandOverFound>((s, e) => s.HighestEpoch == s.Plan.RunEpoch ? Found(s, e) : null),

        // Switch-over. No way back but a statement of the source (withdrawn) or of the destination (refused).
        Row<Stopping, HandOverWithdrawn>((s, e) => Withdrawn(s, e)),
        Row<Stopping, TokenOutcomeUnknown>((s, e) => new TokenSent(s.Plan, e.At, s.Place, s.Kind)),
        Row<Stopping, HandedOver>((s, e) => e.Epoch == s.Plan.TokenEpoch ? new Pulling(s.Plan, e.At, s.Kind) : null),
        Row<TokenSent, HandOverWithdrawn>((s, e) => Withdrawn(s, e)),
        Row<TokenSent, HandedOver>((s, e) => e.Epoch == s.Plan.TokenEpoch ? new Pulling(s.Plan, e.At, s.Kind) : null),
        Row<TokenSent, TakeBackIntended>((s, e) => e.Epoch == s.Plan.TakeBackEpoch && e.RefusedEpoch == s.Plan.TokenEpoch
            ? new Aborting(s.Plan, e.At, UndoList.AfterRefusal, e.Cause, Asked: false, e.Epoch)
            : null),
        Row<TokenSent, FencingNeeded>((s, e) => new NeedsFencing(s.Plan, e.At, s)),

        // Pull. The destination runs the VM.
        Row<Pulling, PullCompleted>((s, e) => new Cleanup(s.Plan, e.At, e.Outcome)),
        Row<Pulling, FencingNeeded>((s, e) => new NeedsFencing(s.Plan, e.At, s)),
        Row<Pulling, VmLost>((s, e) => new Lost(s.Plan, e.At, e.Where, e.Epoch, e.Cause, e.Outcome)),
        Row<Cleanup, SourceReleased>((s, e) => new Completed(s.Plan, e.At, e.Outcome)),

        // The destination is gone.
        Row<NeedsFencing, DestinationReturned>((s, e) => s.Interrupted with { Since = e.At }),
        Row<NeedsFencing, DestinationFenced>((s, e) => new Recovering(s.Plan, e.At, e.Proof)),
        Row<NeedsFencing, VmLost>((s, e) => new Lost(s.Plan, e.At, e.Where, e.Epoch, e.Cause, e.Outcome)),
        Row<Recovering, RecoveryCompleted>((s, e) => e.Epoch > s.Plan.TokenEpoch ? new Recovered(s.Plan, e.At, e.Host, e.Epoch, e.Outcome) : null),
        Row<Recovering, VmLost>((s, e) => new Lost(s.Plan, e.At, e.Where, e.Epoch, e.Cause, e.Outcome)),

        // The way back. The source owns the VM.
        Row<Aborting, UndoDone>((s, e) => s.Remaining.Without(e.Step) is { } rest ? s with { Remaining = rest, Since = e.At } : null),
        Row<Aborting, MigrationUndone>((s, e) => Undone(s, e)),
        Row<Aborting, VmLost>((s, e) => new Lost(s.Plan, e.At, e.Where, e.Epoch, e.Cause, e.Outcome)));

    /// <summary>All pairs that have a row, for the test that compares them with a listing.</summary>
    public static IReadOnlyCollection<(Type State, Type Event)> Pairs => Table.Keys;

    /// <summary>The state after one event; conflict when the pair is not listed, or when the event's epochs are not the plan's.</summary>
    public static Transition Apply(MigrationState state, MigrationEvent happened)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(happened);
        string kind = EventCodec.KindOf(happened);
        if (!Table.TryGetValue((state.GetType(), happened.GetType()), out var row))
            return Refuse($"A migration that is '{state.Name}' cannot take the event '{kind}'.");
        return row(state, happened) is { } next
            ? new Transition(next, null)
            : Refuse($"The event '{kind}' does not fit the migration's plan while it is '{state.Name}': {happened}.");

        static Transition Refuse(string message) =>
            new(null, new FabricError(ErrorCodes.Conflict, message, "The stream is kept as it is; nothing more is done for this migration."));
    }

    /// <summary>Applies events in order and stops at the first that is refused.</summary>
    public static Transition Replay(MigrationState from, IEnumerable<MigrationEvent> events)
    {
        ArgumentNullException.ThrowIfNull(events);
        var result = new Transition(from, null);
        foreach (var happened in events)
        {
            result = Apply(result.State!, happened);
            if (result.Error is not null)
                break;
        }

        return result;
    }

    private static Aborting? GiveUp(ActiveState state, MigrationEvent why)
    {
        if (UndoList.For(state) is not { } undos)
            return null;
        return why switch
        {
            AbortRequested asked => new Aborting(
                state.Plan, asked.At, undos, new FabricError(ErrorCodes.Cancelled, asked.Reason), Asked: true, state.Plan.RunEpoch),
            StepFailed failed => new Aborting(state.Plan, failed.At, undos, failed.Cause, Asked: false, state.Plan.RunEpoch),
            _ => null,
        };
    }

    private static Stopping? Found(ActiveState state, HandOverFound found) =>
        found.Epoch == state.Plan.TokenEpoch ? new Stopping(state.Plan, found.At, found.Place, found.Kind) : null;

    /// <summary>The intended epoch is burnt, although no token of it was ever accepted.</summary>
    private static Aborting Withdrawn(ActiveState state, HandOverWithdrawn why) =>
        new(state.Plan, why.At, UndoList.AfterWithdrawal, why.Cause, Asked: false, state.Plan.TokenEpoch);

    private static TerminalState? Undone(Aborting state, MigrationUndone end)
    {
        if (state.Remaining.Next is not null)
            return null;
        bool tookBack = state.HighestEpoch == state.Plan.TakeBackEpoch;
        var ownerEpoch = tookBack ? state.Plan.TakeBackEpoch : state.Plan.RunEpoch;
        // A burnt epoch may never be used again, so the highest is kept even where the owner's is lower.
        return state.Asked
            ? new Aborted(state.Plan, end.At, ownerEpoch, state.HighestEpoch, state.Cause, end.Outcome)
            : new Failed(state.Plan, end.At, ownerEpoch, state.HighestEpoch, state.Cause, end.Outcome);
    }

    private static ((Type, Type) Pair, Func<MigrationState, MigrationEvent, MigrationState?> Next) Row<TState, TEvent>(
        Func<TState, TEvent, MigrationState?> next)
        where TState : MigrationState
        where TEvent : MigrationEvent =>
        ((typeof(TState), typeof(TEvent)), (state, happened) => next((TState)state, (TEvent)happened));

    private static FrozenDictionary<(Type, Type), Func<MigrationState, MigrationEvent, MigrationState?>> Build(
        params ((Type, Type) Pair, Func<MigrationState, MigrationEvent, MigrationState?> Next)[] rows) =>
        rows.ToFrozenDictionary(static row => row.Pair, static row => row.Next); // a duplicate row throws at start
}
