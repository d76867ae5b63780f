using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;
using Fabric.Supervisor.Vms;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

/// <summary>What a VM's ledger shows when it comes back to life, by the board that everybody looks at.</summary>
public sealed class VmLedgerTests
{
    private static readonly VmName Web = VmName.Parse("web");

    /// <summary>The append of the settlement was done and not answered, so that life ended before it showed the end; the board still has the migration going on.</summary>
    [Fact]
    public void A_settlement_that_was_not_answered_is_shown_by_the_next_life()
    {
        var world = new OneThread();
        var now = world.Services.Now;
        var plan = new MigrationPlan(
            world.Services.Ids.NewMigration(), Spec("web"), Alpha, Beta, MigrationOptions.Default, new Epoch(1), new Epoch(2), new Ticket(new string('a', 2 * Ticket.Bytes)), now);
        MigrationEvent[] story =
        [
            new MigrationPlanned(now, plan),
            new StepFailed(now, new FabricError(ErrorCodes.Exhausted, "No room.")),
            new UndoDone(now, UndoStep.RefuseIncoming),
            new MigrationUndone(now, new Outcome(new MigrationStats(), MigrationMode.PreCopy)),
        ];
        var end = Assert.IsType<Failed>(Transitions.Replay(Unborn.Instance, story).State);
        world.Append(MigrationSupervisor.StreamOf(plan.Id), EventCodec.Catalog, story);
        world.Append(
            VmLedger.StreamOf(Web),
            VmEvents.Catalog,
            new VmCreateIntended(now, Spec("web"), Alpha, new Epoch(1)),
            new VmCreated(now),
            new MigrationClaimed(now, plan),
            new MigrationSettled(now, plan.Id, Alpha, end.OwnerEpoch, end.HighestEpoch, Lost: false));
        world.Board.Publish((KnownState)Transitions.Replay(Unborn.Instance, story[..^1]).State!);

        world.Actors.Spawn("vm-web", () => new VmLedger(world.Services, world.Tenure, Web));
        world.Loop.RunUntilIdle();
        Assert.IsType<Failed>(world.Board.Migration(plan.Id));
    }
}
