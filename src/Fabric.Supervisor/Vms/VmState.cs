using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor.Vms;

internal enum VmStatus
{
    /// <summary>No event, or the last creation failed, or it was deleted: the name is free.</summary>
    Absent,
    Creating,
    Present,
    Lost,
    Deleting,
}

/// <summary>
/// What the ledger of one VM adds up to. <paramref name="Epoch"/>: the owner's run epoch; <paramref name="Highest"/>: the highest that was ever used, which
/// outlives the VM, since agents remember it by name. <paramref name="Births"/> counts creations and names their command ids.
/// <paramref name="LostBy"/>: the migration in which it was lost.
/// </summary>
internal sealed record VmState(
    VmName Name, VmStatus Status, VmSpec? Spec, HostName? Owner, Epoch Epoch, Epoch Highest, MigrationPlan? Active, int Births, bool Force = false, MigrationPlan? LostBy = null)
{
    /// <summary>More deletions by force than this at hosts that stay away are not remembered; the oldest is forgotten first.</summary>
    public const int MostUnheard = 64;

    /// <summary>Hosts that are told of a deletion when they come back.</summary>
    public IReadOnlyList<UnheardDeletion> Unheard { get; init; } = [];

    public static VmState None(VmName name) => new(name, VmStatus.Absent, null, null, Epoch.None, Epoch.None, null, 0);

    /// <exception cref="FabricException">corrupt: the event does not follow from the state.</exception>
    public VmState Apply(VmEvent happened) => (Status, happened) switch
    {
        (VmStatus.Absent, VmCreateIntended e) when e.Epoch > Highest =>
            this with { Status = VmStatus.Creating, Spec = e.Spec, Owner = e.Host, Epoch = e.Epoch, Highest = e.Epoch, Births = Births + 1 },
        (VmStatus.Creating, VmCreated) => this with { Status = VmStatus.Present },
        (VmStatus.Creating, VmCreateFailed) => this with { Status = VmStatus.Absent, Spec = null, Owner = null },
        (VmStatus.Present, MigrationClaimed e) when Active is null && e.Plan.TokenEpoch > Highest => this with { Active = e.Plan },
        (VmStatus.Present, MigrationSettled e) when Active?.Id == e.Migration => this with
        {
            Status = e.Lost ? VmStatus.Lost : VmStatus.Present,
            Owner = e.Owner,
            Epoch = e.Epoch,
            Highest = e.Highest > Highest ? e.Highest : Highest,
            Active = null,
            LostBy = e.Lost ? Active : null,
        },
        (VmStatus.Present or VmStatus.Lost, VmDeleteIntended e) when Active is null => this with { Status = VmStatus.Deleting, Force = e.Force },
        (VmStatus.Deleting, VmDeleted e) => None(Name) with
        {
            Highest = Highest,
            Births = Births,
            Unheard = [.. Unheard.Concat(e.Unconfirmed.Select(host => new UnheardDeletion(host, Births, Highest, LostBy?.Id))).TakeLast(MostUnheard)],
        },
        (VmStatus.Present or VmStatus.Lost or VmStatus.Absent, VmRepaired e) when Active is null && e.Epoch >= Epoch && (Status != VmStatus.Absent || e.Epoch > Highest) => this with
        {
            Status = VmStatus.Present,
            Spec = e.Spec,
            Owner = e.Host,
            Epoch = e.Epoch,
            Highest = e.Highest > Highest ? e.Highest : Highest,
            Births = Status == VmStatus.Absent ? Births + 1 : Births,
            LostBy = null,
        },
        _ => throw new FabricException(
            ErrorCodes.Corrupt, $"The ledger of VM '{Name}' ({Status}) cannot take the event '{VmEvents.Catalog.KindOf(happened)}'.", "The data is kept as it is; restore the journal from a copy."),
    };
}
