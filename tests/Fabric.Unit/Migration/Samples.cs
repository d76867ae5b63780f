using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Unit.Migration;

/// <summary>One of each.</summary>
internal static class Samples
{
    public static readonly DateTimeOffset Now = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    public static readonly HostName Source = HostName.Parse("alpha");
    public static readonly HostName Destination = HostName.Parse("beta");
    public static readonly VmName Vm = VmName.Parse("web");
    public static readonly Guid Life = new(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    public static readonly FabricError Error = new(ErrorCodes.Lost, "something broke", "mend it");
    public static readonly Outcome Outcome = new(new MigrationStats { WireBytes = 7, Rounds = 2, DowntimeMs = 3.5 }, MigrationMode.Hybrid);
    public static readonly IncomingPlace Place = new(new DataEndpoint("127.0.0.1", 7000), Life);

    public static readonly VmSpec Spec = new() { Name = Vm, Machine = MachineKind.Synthetic, MemoryBytes = 64 * ByteSize.Mebi };

    public static readonly MigrationPlan Plan = new(
        new MigrationId(Life), Spec, Source, Destination, new MigrationOptions { Mode = MigrationMode.PreCopy }, new Epoch(4), new Epoch(5),
        new Ticket(new string('a', 64)), Now, "batch-1", Life);

    public static readonly IReadOnlyList<MigrationState> States =
    [
        Unborn.Instance, new Planned(Plan, Now), new Prepared(Plan, Now, Place), new Pushing(Plan, Now, Place), new Stopping(Plan, Now, Place, MigrationMode.PreCopy),
        new TokenSent(Plan, Now, Place, MigrationMode.PreCopy), new Pulling(Plan, Now, MigrationMode.PostCopy), new Cleanup(Plan, Now, Outcome),
        new NeedsFencing(Plan, Now, new Pulling(Plan, Now, MigrationMode.PostCopy)), new Recovering(Plan, Now, "power is off"),
        new Aborting(Plan, Now, UndoList.AfterWithdrawal, Error, false, new Epoch(5)), new Completed(Plan, Now, Outcome), new Failed(Plan, Now, new Epoch(4), new Epoch(5), Error, Outcome),
        new Aborted(Plan, Now, new Epoch(4), new Epoch(4), Error, Outcome), new Recovered(Plan, Now, Source, new Epoch(6), Outcome), new Lost(Plan, Now, Destination, new Epoch(5), Error, Outcome),
    ];

    public static readonly IReadOnlyList<MigrationEvent> Events =
    [
        new MigrationPlanned(Now, Plan), new DestinationPrepared(Now, Place), new PushStarted(Now), new HandOverIntended(Now, new Epoch(5), MigrationMode.PreCopy),
        new HandOverFound(Now, new Epoch(5), MigrationMode.PostCopy, Place), new HandOverWithdrawn(Now, Error), new TokenOutcomeUnknown(Now), new HandedOver(Now, new Epoch(5)), new TakeBackIntended(Now, new Epoch(6), new Epoch(5), Error),
        new PullCompleted(Now, Outcome), new SourceReleased(Now, Outcome, true), new AbortRequested(Now, "no more"), new StepFailed(Now, Error),
        new UndoDone(Now, UndoStep.CancelOutgoing, "silent"), new MigrationUndone(Now, Outcome), new FencingNeeded(Now, "silent"), new DestinationReturned(Now),
        new DestinationFenced(Now, "power is off"), new RecoveryCompleted(Now, Source, new Epoch(6), Outcome), new VmLost(Now, Destination, new Epoch(5), Error, Outcome),
    ];
}
