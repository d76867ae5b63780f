using Fabric.Core;
using Fabric.Migration;
using Xunit;
using static Fabric.Unit.Migration.CrashTableTests;
using static Fabric.Unit.Migration.Samples;

namespace Fabric.Unit.Migration;

/// <summary>A journal that was put back to before the hand-over, with hosts that remember it: the migration goes on to the end that the hosts' ledgers say, from whatever phase the journal is in.</summary>
public sealed class ForgottenHandOverTests
{
    private static readonly MigrationTimings Timings = MigrationTimings.Default;

    private static readonly Aborting GivenUpSince = new(Plan, Now, UndoList.For(new Pushing(Plan, Now, Place))!, Error, Asked: false, Plan.RunEpoch);

    public static TheoryData<string> Early => [.. new[] { "Planned", "Prepared", "Pushing", "Aborting" }];

    private static ActiveState At(string state) => state == "Aborting" ? GivenUpSince : States.OfType<ActiveState>().Single(s => s.GetType().Name == state);

    [Theory]
    [MemberData(nameof(Early))]
    public void A_vm_that_runs_at_the_destination_by_its_ledger_is_pulled_to_its_end(string journal)
    {
        var seen = See(S(SourcePhase.HandedOver), D(DestinationPhase.Pulling));
        Assert.Equal(["HandOverFound", "HandedOver"], Written(At(journal), seen, out var end));
        Assert.IsType<Pulling>(end);
    }

    [Theory]
    [MemberData(nameof(Early))]
    public void A_token_that_left_is_asked_after(string journal)
    {
        Assert.Equal(["HandOverFound", "TokenOutcomeUnknown"], Written(At(journal), See(S(SourcePhase.TokenSent), D(DestinationPhase.Ready)), out var end));
        Assert.IsType<TokenSent>(end);
    }

    [Theory]
    [MemberData(nameof(Early))]
    public void An_epoch_that_was_burnt_stays_burnt(string journal)
    {
        Written(At(journal), See(S(SourcePhase.Withdrawn, owner: true), D(DestinationPhase.Prepared)), out var end);
        Assert.Equal(Plan.TokenEpoch, Assert.IsType<Aborting>(end).HighestEpoch);
    }

    [Theory]
    [MemberData(nameof(Early))]
    public void A_vm_that_was_taken_back_is_the_sources_at_its_new_epoch(string journal)
    {
        Written(At(journal), See(S(SourcePhase.Withdrawn, owner: true, epoch: Plan.TakeBackEpoch.Value), D(DestinationPhase.Refused)), out var end);
        Assert.Equal((Plan.TakeBackEpoch, Plan.TakeBackEpoch), (Assert.IsType<Failed>(end).OwnerEpoch, ((Failed)end).HighestEpoch));
    }

    [Fact]
    public void The_word_of_one_host_is_enough_and_an_abort_comes_too_late()
    {
        var seen = See(null, D(DestinationPhase.Complete)) with { AbortReason = "enough" };
        Assert.IsType<HandOverFound>(Assert.Single(Brain.Decide(At("Pushing"), seen, Timings).Events));
    }

    [Fact]
    public void A_hand_over_of_another_epoch_is_not_this_migrations()
    {
        var stale = S(SourcePhase.TokenSent) with { Outgoing = new SourceFact(Plan.Id, SourcePhase.TokenSent, new Epoch(4), MigrationMode.PreCopy, new MigrationStats()) };
        Assert.DoesNotContain(Brain.Decide(At("Pushing"), See(stale, D(DestinationPhase.Ready)), Timings).Events, static e => e is HandOverFound);
    }

    [Fact]
    public void What_was_refused_for_good_is_not_found_again()
    {
        var afterRefusal = new Aborting(Plan, Now, UndoList.AfterRefusal, Error, Asked: false, Plan.TakeBackEpoch);
        Assert.NotNull(Transitions.Apply(afterRefusal, new HandOverFound(Now, Plan.TokenEpoch, MigrationMode.PreCopy, Place)).Error);
        Assert.DoesNotContain(Brain.Decide(afterRefusal, See(S(SourcePhase.TokenSent), D(DestinationPhase.Refused)), Timings).Events, static e => e is HandOverFound);
    }

    /// <summary>What is written, one decision after the other, until something is sent or waited for.</summary>
    private static List<string> Written(MigrationState state, Observation seen, out MigrationState end)
    {
        var names = new List<string>();
        for (int i = 0; i < 10; i++)
        {
            var decision = Brain.Decide(state, seen, Timings);
            if (decision.Events.Count == 0)
                break;
            names.AddRange(decision.Events.Select(static e => e.GetType().Name));
            state = Transitions.Replay(state, decision.Events).State!;
        }

        end = state;
        return names;
    }
}
