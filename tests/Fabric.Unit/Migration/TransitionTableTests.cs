using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration;

/// <summary>Every pair of a state type and an event type is either in the listing below or refused as an error value. A new phase or event without rows fails here.</summary>
public sealed class TransitionTableTests
{
    private static readonly Dictionary<string, string[]> Listing = new()
    {
        ["Unborn"] = ["MigrationPlanned"],
        ["Planned"] = ["DestinationPrepared", "AbortRequested", "StepFailed", "HandOverFound"],
        ["Prepared"] = ["PushStarted", "AbortRequested", "StepFailed", "HandOverFound"],
        ["Pushing"] = ["HandOverIntended", "AbortRequested", "StepFailed", "HandOverFound"],
        ["Stopping"] = ["HandOverWithdrawn", "TokenOutcomeUnknown", "HandedOver"],
        ["TokenSent"] = ["HandOverWithdrawn", "HandedOver", "TakeBackIntended", "FencingNeeded"],
        ["Pulling"] = ["PullCompleted", "FencingNeeded", "VmLost"],
        ["Cleanup"] = ["SourceReleased"],
        ["NeedsFencing"] = ["DestinationReturned", "DestinationFenced", "VmLost"],
        ["Recovering"] = ["RecoveryCompleted", "VmLost"],
        ["Aborting"] = ["UndoDone", "MigrationUndone", "VmLost", "HandOverFound"],
        ["Completed"] = [],
        ["Failed"] = [],
        ["Aborted"] = [],
        ["Recovered"] = [],
        ["Lost"] = [],
    };

    private static IEnumerable<Type> Concrete<T>() => typeof(T).Assembly.GetTypes().Where(static t => t is { IsAbstract: false } && t.IsSubclassOf(typeof(T)));

    [Fact]
    public void The_table_is_the_listing()
    {
        Assert.Equal(Concrete<MigrationState>().Select(static t => t.Name).Order(), Listing.Keys.Order());
        var listed = Listing.SelectMany(static row => row.Value.Select(e => $"{row.Key} + {e}")).Order();
        Assert.Equal(listed, Transitions.Pairs.Select(static pair => $"{pair.State.Name} + {pair.Event.Name}").Order());
    }

    [Fact]
    public void An_unlisted_pair_is_an_error_value_and_a_listed_one_is_not_rejected_for_being_unlisted()
    {
        foreach (var state in Samples.States)
        {
            foreach (var happened in Samples.Events)
            {
                var (next, error) = Transitions.Apply(state, happened);
                bool listed = Listing[state.GetType().Name].Contains(happened.GetType().Name);
                Assert.True(listed || next is null, $"{state.Name} took {happened.GetType().Name}");
                Assert.Equal(next is null, error is not null);
                Assert.True(!listed || error is null || error.Message.Contains("does not fit", StringComparison.Ordinal), error?.Message);
            }
        }
    }

    [Fact]
    public void Every_state_and_every_event_has_a_sample()
    {
        Assert.Equal(Concrete<MigrationState>().Select(static t => t.Name).Order(), Samples.States.Select(static s => s.GetType().Name).Distinct().Order());
        Assert.Equal(Concrete<MigrationEvent>().Select(static t => t.Name).Order(), Samples.Events.Select(static e => e.GetType().Name).Distinct().Order());
    }

    [Fact]
    public void A_hand_over_at_a_burnt_epoch_does_not_fit()
    {
        var pushing = Samples.States.OfType<Pushing>().First();
        var (next, error) = Transitions.Apply(pushing, new HandOverIntended(Samples.Now, Samples.Plan.RunEpoch, MigrationMode.PreCopy));
        Assert.Null(next);
        Assert.Equal(ErrorCodes.Conflict, error!.Code);
    }

    [Fact]
    public void Every_state_before_the_hand_over_knows_its_undos_and_no_later_one_has_any()
    {
        Assert.Equal([UndoStep.RefuseIncoming], UndoList.For(Samples.States.OfType<Planned>().First())!);
        Assert.Equal([UndoStep.CancelOutgoing, UndoStep.RefuseIncoming], UndoList.For(Samples.States.OfType<Pushing>().First())!);
        Assert.All(Samples.States.Where(static s => s is Stopping or TokenSent or Pulling or Cleanup or NeedsFencing or TerminalState), static s => Assert.Null(UndoList.For(s)));
        Assert.Equal(Enum.GetValues<UndoStep>().Order(), UndoList.Steps.Select(static row => row.Undo).Order());
    }
}
