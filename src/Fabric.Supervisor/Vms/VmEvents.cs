// The ledger of one VM: who owns it, at which epoch, and which migration, if any, may change that.
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor.Vms;

internal abstract record VmEvent(DateTimeOffset At);

/// <summary>Intent, before the command. <paramref name="Epoch"/>: 1 for a new name, above all that were used for one that is used again.</summary>
internal sealed record VmCreateIntended(DateTimeOffset At, VmSpec Spec, HostName Host, Epoch Epoch) : VmEvent(At);

internal sealed record VmCreated(DateTimeOffset At) : VmEvent(At);

internal sealed record VmCreateFailed(DateTimeOffset At, FabricError Cause) : VmEvent(At);

/// <summary>The VM is given to one migration, with all that was agreed: from here on that migration is carried on whoever dies.</summary>
internal sealed record MigrationClaimed(DateTimeOffset At, MigrationPlan Plan) : VmEvent(At);

/// <summary>The migration is over. Epochs up to <paramref name="Highest"/> are used.</summary>
internal sealed record MigrationSettled(DateTimeOffset At, MigrationId Migration, HostName Owner, Epoch Epoch, Epoch Highest, bool Lost) : VmEvent(At);

internal sealed record VmDeleteIntended(DateTimeOffset At, bool Force) : VmEvent(At);

/// <summary><paramref name="Unconfirmed"/>: hosts that could not be asked and are told when they come back.</summary>
internal sealed record VmDeleted(DateTimeOffset At, IReadOnlyList<HostName> Unconfirmed) : VmEvent(At);

/// <summary>
/// Every host was asked, and exactly <paramref name="Host"/> has the right to run the VM, at <paramref name="Epoch"/>: the journal said otherwise and now follows it. Epochs up to
/// <paramref name="Highest"/> are used. <paramref name="Reason"/>: the operator's.
/// </summary>
internal sealed record VmRepaired(DateTimeOffset At, VmSpec Spec, HostName Host, Epoch Epoch, Epoch Highest, string Reason) : VmEvent(At);

internal static class VmEvents
{
    public static EventCatalog<VmEvent> Catalog { get; } = new(
        ("vm-create-intended", VmJson.Default.VmCreateIntended),
        ("vm-created", VmJson.Default.VmCreated),
        ("vm-create-failed", VmJson.Default.VmCreateFailed),
        ("migration-claimed", VmJson.Default.MigrationClaimed),
        ("migration-settled", VmJson.Default.MigrationSettled),
        ("vm-delete-intended", VmJson.Default.VmDeleteIntended),
        ("vm-deleted", VmJson.Default.VmDeleted),
        ("vm-repaired", VmJson.Default.VmRepaired));
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    MaxDepth = 32,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(VmCreateIntended))]
[JsonSerializable(typeof(VmCreated))]
[JsonSerializable(typeof(VmCreateFailed))]
[JsonSerializable(typeof(MigrationClaimed))]
[JsonSerializable(typeof(MigrationSettled))]
[JsonSerializable(typeof(VmDeleteIntended))]
[JsonSerializable(typeof(VmDeleted))]
[JsonSerializable(typeof(VmRepaired))]
internal sealed partial class VmJson : JsonSerializerContext;
