// A journal that was put back to an older copy knows less than the hosts. What they have recorded happened, whatever the journal says: a migration whose hand-over is in a
// host's ledger is past every phase in which it could be given up. It is written down again and goes on from there. Without a loss nothing here applies: no hand-over begins
// before its intent is durable.
namespace Fabric.Migration;

public static partial class Brain
{
    private static Decision? CatchUp(ActiveState state, Observation seen)
    {
        bool early = state is Planned or Prepared or Pushing || (state is Aborting aborting && aborting.HighestEpoch == aborting.Plan.RunEpoch);
        if (!early || !HandOverBegan(state.Plan, seen))
            return null;
        var plan = state.Plan;
        return seen.Destination is { Data: { } data, Incarnation: { } life }
            ? Decision.Write(new HandOverFound(seen.Now, plan.TokenEpoch, HandOverKind(plan.Options.Mode, seen.SourceFact(plan.Id)?.Mode ?? MigrationMode.PreCopy), new IncomingPlace(data, life)))
            : Decision.Wait(); // the destination was never heard: what it says comes first
    }

    /// <summary>By the durable word of one of the hosts.</summary>
    private static bool HandOverBegan(MigrationPlan plan, Observation seen) =>
        (seen.DestinationFact(plan.Id) is { } destination && destination.HandOverEpoch == plan.TokenEpoch && Accepted(destination.Phase))
        || (seen.SourceFact(plan.Id) is { } source && source.HandOverEpoch == plan.TokenEpoch && source.Phase is
            SourcePhase.HandingOver or SourcePhase.Withdrawn or SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained or SourcePhase.Released);

    /// <summary>The source runs the VM again at the epoch that only a take-back grants.</summary>
    private static bool TookBack(MigrationPlan plan, Observation seen) => seen.Source.Vm is { Owner: true } vm && vm.RunEpoch == plan.TakeBackEpoch;
}
