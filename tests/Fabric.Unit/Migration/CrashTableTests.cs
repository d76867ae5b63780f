// docs/PROTOCOL.md, section 2, "Every crash point, and who may run the VM after it": one test per row, on the brain. Each gives the state that is in the journal and what the
// two ledgers say after the crash, and reads off what is decided: what is written, what is sent, and above all what is not.
using Fabric.Core;
using Fabric.Migration;
using Xunit;
using static Fabric.Unit.Migration.Samples;

namespace Fabric.Unit.Migration;

public sealed class CrashTableTests
{
    private static readonly MigrationTimings Timings = MigrationTimings.Default;
    private static readonly Guid NewLife = Guid.NewGuid();
    private static readonly Stopping Intended = new(Plan, Now, Place, MigrationMode.PreCopy);
    private static readonly TokenSent Unknown = new(Plan, Now, Place, MigrationMode.PreCopy);
    private static readonly Pulling Pull = new(Plan, Now, MigrationMode.PostCopy);

    [Theory]
    [InlineData("Stopping")]
    [InlineData("TokenSent")]
    [InlineData("Pulling")]
    public void Supervisor_anywhere_the_next_one_decides_the_same_from_the_journal_and_the_agents(string state)
    {
        // A newborn has no answers; nothing else distinguishes it, since deciding is a function.
        var at = States.OfType<ActiveState>().First(s => s.GetType().Name == state);
        var seen = See(S(SourcePhase.HandedOver), D(DestinationPhase.Pulling));
        Assert.Equal(Names(Brain.Decide(at, seen, Timings)), Names(Brain.Decide(at, seen, Timings)));
        if (at is not Pulling)
            Assert.IsType<HandedOver>(Assert.Single(Brain.Decide(at, seen, Timings).Events));
    }

    [Fact]
    public void Source_agent_before_c1_the_push_is_gone_and_the_destination_refuses()
    {
        var seen = See(S(SourcePhase.PushFailed, owner: true), D(DestinationPhase.Prepared));
        Assert.IsType<StepFailed>(Assert.Single(Brain.Decide(new Pushing(Plan, Now, Place), seen, Timings).Events));

        // With the hand-over intended already, the source must first say that no token can leave.
        Assert.IsType<CancelOutgoing>(Sent(Brain.Decide(Intended, seen, Timings)));
        var said = Brain.Decide(Intended, seen with { Answers = Answer(MigrationStep.Cancel, null) }, Timings);
        Assert.IsType<HandOverWithdrawn>(Assert.Single(said.Events));
    }

    [Fact]
    public void Source_agent_between_c1_and_c2_withdrew_at_its_restart()
    {
        var decision = Brain.Decide(Intended, See(S(SourcePhase.Withdrawn, owner: true, epoch: 4), D(DestinationPhase.Prepared)), Timings);
        var (next, _) = Transitions.Replay(Intended, decision.Events);
        var aborting = Assert.IsType<Aborting>(next);
        Assert.Equal([UndoStep.CancelOutgoing, UndoStep.RefuseIncoming], aborting.Remaining);
        Assert.Equal(new Epoch(5), aborting.HighestEpoch); // burnt
    }

    [Fact]
    public void Source_agent_between_c2_and_c5_the_destination_is_asked_to_refuse_and_only_its_answer_decides()
    {
        var seen = See(S(SourcePhase.TokenSent), D(DestinationPhase.Ready));
        Assert.IsType<TokenOutcomeUnknown>(Assert.Single(Brain.Decide(Intended, seen, Timings).Events));
        Assert.Empty(Names(Brain.Decide(Unknown, seen, Timings))); // it may be a moment's matter
        var late = seen with { Now = Now + Timings.TokenOutcome };
        var asked = Assert.IsType<RefuseIncoming>(Sent(Brain.Decide(Unknown, late, Timings)));
        Assert.Equal(new Epoch(5), asked.Header.RunEpoch);

        var refused = Brain.Decide(Unknown, late with { Answers = Answer(MigrationStep.Refuse, null) }, Timings);
        var intent = Assert.IsType<TakeBackIntended>(Assert.Single(refused.Events));
        Assert.Equal((new Epoch(6), new Epoch(5)), (intent.Epoch, intent.RefusedEpoch));
        var back = (Aborting)Transitions.Apply(Unknown, intent).State!;
        var order = Assert.IsType<TakeBack>(Sent(Brain.Decide(back, late, Timings)));
        Assert.Equal(new Epoch(6), order.Header.RunEpoch);

        var accepted = Answer(MigrationStep.Refuse, new FabricError(ErrorCodes.RefusedBySafety, "accepted"));
        Assert.Empty(Brain.Decide(Unknown, late with { Answers = accepted }, Timings).Events);
        Assert.IsType<HandedOver>(Assert.Single(Brain.Decide(Unknown, See(S(SourcePhase.TokenSent), D(DestinationPhase.TokenAccepted)), Timings).Events));
    }

    [Fact]
    public void No_time_however_long_lets_the_source_run_without_the_destinations_word()
    {
        foreach (var state in new ActiveState[] { Intended, Unknown, Pull })
        {
            for (int minutes = 1; minutes < 1_000_000; minutes *= 10)
            {
                var later = See(S(SourcePhase.TokenSent), D(DestinationPhase.Ready)) with { Now = Now.AddMinutes(minutes) };
                var silent = later with { Destination = later.Destination with { UnreachableSince = Now } };
                var bothSilent = silent with { Source = later.Source with { UnreachableSince = Now } };
                foreach (var seen in new[] { later, silent, bothSilent })
                {
                    var decision = Brain.Decide(state, seen, Timings);
                    Assert.DoesNotContain(decision.Events, static e => e is TakeBackIntended or HandOverWithdrawn);
                    Assert.DoesNotContain(decision.Orders, static o => o.Command is TakeBack);
                }
            }
        }
    }

    [Fact]
    public void Destination_agent_before_c3_refused_at_its_restart_and_the_source_withdraws_or_is_told()
    {
        Assert.IsType<StepFailed>(Assert.Single(Brain.Decide(new Pushing(Plan, Now, Place), See(S(SourcePhase.Converged, owner: true), D(DestinationPhase.Refused, NewLife)), Timings).Events));
        Assert.Empty(Names(Brain.Decide(Intended, See(S(SourcePhase.HandingOver, owner: true), D(DestinationPhase.Refused, NewLife)), Timings))); // it withdraws by itself
        Assert.IsType<CancelOutgoing>(Sent(Brain.Decide(Intended, See(S(SourcePhase.Converged, owner: true), D(DestinationPhase.Refused, NewLife)), Timings)));
        Assert.IsType<TakeBackIntended>(Assert.Single(Brain.Decide(Unknown, See(S(SourcePhase.TokenSent), D(DestinationPhase.Refused, NewLife)), Timings).Events));
    }

    [Fact]
    public void Destination_agent_between_c3_and_c4_is_asked_at_once_in_its_new_life()
    {
        // Its restart writes `refused`; should the facts not say so yet, the new incarnation alone is reason to ask, without waiting.
        Assert.IsType<RefuseIncoming>(Sent(Brain.Decide(Unknown, See(S(SourcePhase.TokenSent), null) with
        {
            Destination = new HostView(NewLife, Place.Endpoint, null, null),
        }, Timings)));
    }

    [Fact]
    public void Destination_agent_after_c4_keeps_the_vm()
    {
        foreach (var phase in new[] { DestinationPhase.TokenAccepted, DestinationPhase.Pulling, DestinationPhase.PullBroken, DestinationPhase.Complete, DestinationPhase.Lost })
        {
            foreach (var state in new ActiveState[] { Intended, Unknown })
                Assert.IsType<HandedOver>(Assert.Single(Brain.Decide(state, See(S(SourcePhase.TokenSent), D(phase, NewLife)), Timings).Events));
        }
    }

    [Fact]
    public void Destination_qemu_before_c4_the_source_takes_back_on_the_refusal()
    {
        var seen = See(S(SourcePhase.TokenSent), D(DestinationPhase.Refused));
        Assert.IsType<TakeBackIntended>(Assert.Single(Brain.Decide(Unknown, seen, Timings).Events));
    }

    [Fact]
    public void Destination_qemu_after_c4_with_no_pull_left_completes_and_the_vm_has_crashed_at_home()
    {
        Assert.IsType<PullCompleted>(Assert.Single(Brain.Decide(Pull, See(S(SourcePhase.HandedOver), D(DestinationPhase.Complete)), Timings).Events));
    }

    [Fact]
    public void Destination_qemu_after_c4_in_the_pull_is_lost_and_nobody_runs_it()
    {
        var decision = Brain.Decide(Pull, See(S(SourcePhase.HandedOver), D(DestinationPhase.Lost)), Timings);
        var lost = Assert.IsType<VmLost>(Assert.Single(decision.Events));
        Assert.Equal((Destination, new Epoch(5)), (lost.Where, lost.Epoch));
    }

    [Theory]
    [InlineData("source agent")]
    [InlineData("destination agent")]
    [InlineData("link")]
    public void A_broken_pull_is_connected_again_whoever_broke_it(string who)
    {
        var seen = See(S(SourcePhase.HandedOver), D(DestinationPhase.PullBroken, who == "destination agent" ? NewLife : Life));
        var serve = Assert.IsType<ServePull>(Sent(Brain.Decide(Pull, seen, Timings)));
        Assert.Equal(Plan.Ticket, serve.Ticket);

        // An answered attempt that did not help is followed by another one under a new id, after a pause.
        var answered = seen with { Answers = Answer(MigrationStep.ServePull, null) };
        Assert.Empty(Names(Brain.Decide(Pull, answered, Timings)));
        var again = Assert.IsType<ServePull>(Sent(Brain.Decide(Pull, answered with { Now = Now + Timings.Retry }, Timings)));
        Assert.NotEqual(serve.Header.Id, again.Header.Id);
    }

    [Fact]
    public void Memory_is_called_gone_only_by_what_the_destination_said_after_the_source()
    {
        var late = See(null, D(DestinationPhase.PullBroken)) with { Now = Now + Timings.SourceGone };
        var nothing = new StepAnswer(0, new FabricError(ErrorCodes.NotFound, "no such machine"), late.Now);
        var answered = late with { Answers = new Dictionary<MigrationStep, StepAnswer> { [MigrationStep.ServePull] = nothing } };
        Assert.Empty(Names(Brain.Decide(Pull, answered, Timings))); // the destination was asked before: its last page may have come since
        var fresh = answered with { Destination = answered.Destination with { AskedAt = late.Now } };
        Assert.IsType<VmLost>(Assert.Single(Brain.Decide(Pull, fresh, Timings).Events));
    }

    [Fact]
    public void Link_before_c2_the_sources_own_deadline_withdraws()
    {
        Assert.Empty(Names(Brain.Decide(Intended, See(S(SourcePhase.HandingOver, owner: true), D(DestinationPhase.Prepared)), Timings)));
        Assert.IsType<HandOverWithdrawn>(Assert.Single(Brain.Decide(Intended, See(S(SourcePhase.Withdrawn, owner: true), D(DestinationPhase.Prepared)), Timings).Events));
    }

    [Fact]
    public void Destination_host_gone_after_the_token_left_needs_fencing_and_goes_on_when_it_returns()
    {
        var gone = See(S(SourcePhase.TokenSent), D(DestinationPhase.Ready)) with { Now = Now + Timings.Fencing };
        gone = gone with { Destination = gone.Destination with { UnreachableSince = Now } };
        Assert.IsType<FencingNeeded>(Assert.Single(Brain.Decide(Unknown, gone, Timings).Events));
        var fencing = (NeedsFencing)Transitions.Apply(Unknown, new FencingNeeded(Now, "silent")).State!;
        Assert.Empty(Names(Brain.Decide(fencing, gone, Timings)));
        Assert.IsType<DestinationReturned>(Assert.Single(Brain.Decide(fencing, See(S(SourcePhase.TokenSent), D(DestinationPhase.Ready)), Timings).Events));
        Assert.IsType<TokenSent>(Transitions.Apply(fencing, new DestinationReturned(Now)).State);
    }

    [Fact]
    public void Abort_is_refused_from_the_intent_to_hand_over_on()
    {
        foreach (var state in States.OfType<ActiveState>())
        {
            var decision = Brain.Decide(state, See(S(SourcePhase.Pushing, owner: true), D(DestinationPhase.Prepared)) with { AbortReason = "enough" }, Timings);
            bool early = state is Planned or Prepared or Pushing;
            Assert.Equal(early, decision.Events.OfType<AbortRequested>().Any());
            Assert.Equal(early || state is Aborting ? null : ErrorCodes.RefusedBySafety, decision.AbortRefused?.Code);
        }
    }

    internal static Observation See(VmFact? source, VmFact? destination) => new(
        Now, new Epoch(9), new HostView(Life, Place.Endpoint, source, null, Now),
        new HostView(destination?.Note is null ? Life : NewLife, Place.Endpoint, destination, null, Now), Observation.NoAnswers);

    internal static VmFact S(SourcePhase phase, bool owner = false, long epoch = 4) => new(
        Spec, new Epoch(epoch), owner, owner ? VmRunState.Running : VmRunState.Paused, 1, new SourceFact(Plan.Id, phase, new Epoch(5), MigrationMode.PreCopy, new MigrationStats()), null);

    /// <summary>The note carries whether the agent lives another life, so that a fact is one value.</summary>
    internal static VmFact D(DestinationPhase phase, Guid? life = null) => new(
        Spec, new Epoch(Brain.Accepted(phase) ? 5 : 0), Brain.Accepted(phase), Brain.Accepted(phase) ? VmRunState.Running : VmRunState.Incoming, 1, null,
        new DestinationFact(Plan.Id, phase, new Epoch(5), new MigrationStats()), life == NewLife ? "new life" : null);

    private static Dictionary<MigrationStep, StepAnswer> Answer(MigrationStep step, FabricError? error) => new() { [step] = new StepAnswer(0, error, Now) };

    private static AgentCommand Sent(Decision decision)
    {
        Assert.Empty(decision.Events);
        return Assert.Single(decision.Orders).Command;
    }

    private static IEnumerable<string> Names(Decision decision) =>
        decision.Events.Select(static e => e.GetType().Name).Concat(decision.Orders.Select(static o => o.Command.GetType().Name));
}
