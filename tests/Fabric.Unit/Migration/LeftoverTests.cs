using Fabric.Core;
using Fabric.Migration;
using Xunit;
using static Fabric.Unit.Migration.Samples;

namespace Fabric.Unit.Migration;

/// <summary>Every end with every phase that a host may still show of it: what the host is told, and above all where nothing is said.</summary>
public sealed class LeftoverTests
{
    [Fact]
    public void A_source_is_released_only_when_the_vm_runs_elsewhere()
    {
        foreach (var end in States.OfType<TerminalState>())
        {
            foreach (var phase in Enum.GetValues<SourcePhase>())
            {
                MigrationStep? expected = phase switch
                {
                    SourcePhase.Pushing or SourcePhase.Converged => MigrationStep.Cancel,
                    SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained when end is Completed or Recovered => MigrationStep.Release,
                    _ => null,
                };
                var fact = new VmFact(Spec, new Epoch(4), Owner: false, VmRunState.Paused, 1, new SourceFact(Plan.Id, phase, new Epoch(5), MigrationMode.PreCopy, new MigrationStats()), null);
                Assert.Equal(expected, Brain.Leftover(end, Source, fact));
                Assert.Null(Brain.Leftover(end, Destination, fact));
                Assert.Null(Brain.Leftover(end, Source, fact with { Outgoing = fact.Outgoing! with { Migration = new MigrationId(Guid.NewGuid()) } }));
            }
        }
    }

    [Fact]
    public void A_destination_refuses_only_what_it_has_not_accepted()
    {
        foreach (var end in States.OfType<TerminalState>())
        {
            foreach (var phase in Enum.GetValues<DestinationPhase>())
            {
                bool waits = phase is DestinationPhase.Preparing or DestinationPhase.Prepared or DestinationPhase.Ready && end is not (Completed or Recovered);
                var fact = new VmFact(Spec, Epoch.None, Owner: false, VmRunState.Incoming, 1, null, new DestinationFact(Plan.Id, phase, new Epoch(5), new MigrationStats()));
                Assert.Equal(waits ? MigrationStep.Refuse : null, Brain.Leftover(end, Destination, fact));
                Assert.Null(Brain.Leftover(end, Source, fact));
            }
        }
    }

    [Fact]
    public void What_is_told_names_the_migration_and_has_an_id_of_its_own()
    {
        var end = States.OfType<Completed>().Single();
        var first = Brain.TidyCommand(end, MigrationStep.Release, new Epoch(9), 0);
        Assert.IsType<ReleaseSource>(first);
        Assert.Equal((Plan.Id, new Epoch(9)), (first.Header.Migration, first.Header.ShardEpoch));
        Assert.NotEqual(CommandIds.For(Plan.Id, MigrationStep.Release, 0), first.Header.Id);
        Assert.NotEqual(first.Header.Id, Brain.TidyCommand(end, MigrationStep.Release, new Epoch(9), 1).Header.Id);
        Assert.IsType<CancelOutgoing>(Brain.TidyCommand(end, MigrationStep.Cancel, new Epoch(9), 0));
        Assert.IsType<RefuseIncoming>(Brain.TidyCommand(end, MigrationStep.Refuse, new Epoch(9), 0));
    }
}
