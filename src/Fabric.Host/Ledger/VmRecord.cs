// What an agent writes down about one VM before it acts. Kinds are stable names: a record once written is read by every later version.
using System.Reflection;
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Ledger;

/// <summary>One line of a VM's ledger. <see cref="VmLedgerState.Apply"/> says what each one means and where it is legal.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "record")]
[JsonDerivedType(typeof(VmRecord.ShardSeen), "shard-seen")]
[JsonDerivedType(typeof(VmRecord.Answered), "answered")]
[JsonDerivedType(typeof(VmRecord.Owned), "owned")]
[JsonDerivedType(typeof(VmRecord.MachineStarted), "machine-started")]
[JsonDerivedType(typeof(VmRecord.MachineGone), "machine-gone")]
[JsonDerivedType(typeof(VmRecord.PushStarted), "push-started")]
[JsonDerivedType(typeof(VmRecord.PushEnded), "push-ended")]
[JsonDerivedType(typeof(VmRecord.MemoryReturned), "memory-returned")]
[JsonDerivedType(typeof(VmRecord.HandingOver), "handing-over")]
[JsonDerivedType(typeof(VmRecord.TokenSent), "token-sent")]
[JsonDerivedType(typeof(VmRecord.Withdrawn), "withdrawn")]
[JsonDerivedType(typeof(VmRecord.HandedOver), "handed-over")]
[JsonDerivedType(typeof(VmRecord.TakenBack), "taken-back")]
[JsonDerivedType(typeof(VmRecord.Drained), "drained")]
[JsonDerivedType(typeof(VmRecord.Released), "released")]
[JsonDerivedType(typeof(VmRecord.IncomingExpected), "incoming")]
[JsonDerivedType(typeof(VmRecord.Accepted), "accepted")]
[JsonDerivedType(typeof(VmRecord.Refused), "refused")]
[JsonDerivedType(typeof(VmRecord.PullCompleted), "complete")]
[JsonDerivedType(typeof(VmRecord.IncomingLost), "lost")]
[JsonDerivedType(typeof(VmRecord.Deleted), "deleted")]
[JsonDerivedType(typeof(VmRecord.Summary), "summary")]
public abstract record VmRecord
{
    private VmRecord()
    {
    }

    /// <summary>All kinds, by the names under which they are stored.</summary>
    public static IReadOnlyList<string> Kinds { get; } =
        [.. typeof(VmRecord).GetCustomAttributes<JsonDerivedTypeAttribute>().Select(static a => (string)a.TypeDiscriminator!)];

    public static string KindOf(VmRecord record)
    {
        ArgumentNullException.ThrowIfNull(record);
        return (string)typeof(VmRecord).GetCustomAttributes<JsonDerivedTypeAttribute>().Single(a => a.DerivedType == record.GetType()).TypeDiscriminator!;
    }

    /// <summary>A supervisor with this shard epoch has spoken; lower ones are refused from now on.</summary>
    public sealed record ShardSeen(Epoch Epoch, Guid Term = default) : VmRecord;

    /// <summary>The answer to a command, given again when the same id is asked again.</summary>
    public sealed record Answered(CommandId Command, FabricError? Error) : VmRecord;

    /// <summary>The right to run is here since this epoch (creation).</summary>
    public sealed record Owned(Epoch Epoch, VmSpec Spec) : VmRecord;

    /// <summary>How to find the machine's process again.</summary>
    public sealed record MachineStarted(string Adoption) : VmRecord;

    /// <summary>The machine's process has ended; why is for people.</summary>
    public sealed record MachineGone(string Why) : VmRecord;

    /// <summary><paramref name="Lent"/>: from now on the guest's balloon takes memory for this migration, and this many bytes are to be the guest's again. Null: it is left alone.</summary>
    public sealed record PushStarted(MigrationId Migration, HostName Destination, DataEndpoint Endpoint, Ticket Ticket, MigrationOptions Options, long? Lent = null) : VmRecord;

    public sealed record PushEnded(MigrationId Migration, FabricError Why) : VmRecord;

    /// <summary>The guest was told, here, that the memory which its balloon took for this migration is its own again.</summary>
    public sealed record MemoryReturned(MigrationId Migration) : VmRecord;

    public sealed record HandingOver(MigrationId Migration, Epoch Epoch, MigrationMode Mode) : VmRecord;

    public sealed record TokenSent(MigrationId Migration, Epoch Epoch) : VmRecord;

    /// <summary>Written by the process that knows that the token never reached a socket, before the VM is continued.</summary>
    public sealed record Withdrawn(MigrationId Migration, FabricError Why) : VmRecord;

    public sealed record HandedOver(MigrationId Migration, Epoch Epoch) : VmRecord;

    /// <summary>The destination has durably refused; the right is here again, at a higher epoch.</summary>
    public sealed record TakenBack(MigrationId Migration, Epoch Epoch) : VmRecord;

    public sealed record Drained(MigrationId Migration) : VmRecord;

    public sealed record Released(MigrationId Migration) : VmRecord;

    public sealed record IncomingExpected(MigrationId Migration, Epoch Epoch, VmSpec Spec, HostName Source, Ticket Ticket, MigrationOptions Options) : VmRecord;

    /// <summary>The run token is here. <paramref name="Kind"/> says whether pages are still missing.</summary>
    public sealed record Accepted(MigrationId Migration, Epoch Epoch, HandOverKind Kind) : VmRecord;

    public sealed record Refused(MigrationId Migration, Epoch Epoch, string Why) : VmRecord;

    public sealed record PullCompleted(MigrationId Migration, bool? Verified) : VmRecord;

    public sealed record IncomingLost(MigrationId Migration, string Why) : VmRecord;

    public sealed record Deleted : VmRecord;

    /// <summary>Everything that the lines before it said; the first line of a compacted ledger.</summary>
    public sealed record Summary(VmLedgerState State) : VmRecord;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, AllowOutOfOrderMetadataProperties = true)]
[JsonSerializable(typeof(VmRecord))]
internal sealed partial class LedgerJson : JsonSerializerContext;
