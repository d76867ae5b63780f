using Fabric.Actors;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Shards;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Vms;

internal abstract record VmMessage;

/// <summary>Answered once the ledger is read.</summary>
internal sealed record VmLoaded(IReply<VmState> Reply) : VmMessage;

/// <summary>Answered when the VM runs, or did not come up.</summary>
internal sealed record CreateAsked(VmSpec Spec, HostName Host, IReply<VmState> Reply) : VmMessage;

/// <summary>Nobody uses this ledger: it may end if it has nothing to do. Answered with whether it does.</summary>
internal sealed record VmRest(RestOffer Offer, IReply<bool> Reply) : VmMessage;

/// <summary>Answered once the migration is durable.</summary>
internal sealed record MigrateAsked(
    HostName Destination, MigrationOptions Options, Guid? RequestId, BatchMembership? Batch, IReply<KnownState> Reply) : VmMessage;

internal sealed record AbortAsked(MigrationId Migration, string Reason, IReply<KnownState> Reply) : VmMessage;

/// <summary>Answered when the VM is gone. <paramref name="Force"/>: also when hosts cannot be asked.</summary>
internal sealed record DeleteAsked(bool Force, IReply<VmState> Reply) : VmMessage;

/// <summary>From the migration's supervisor, which repeats it in its next life if this is not settled.</summary>
internal sealed record MigrationEnded(TerminalState End) : VmMessage;

/// <summary>The supervisor's actor is gone; if its migration is not over, it is started again.</summary>
internal sealed record SupervisorGone(MigrationId Migration) : VmMessage;

/// <summary>The agent's answer to a creation, or that none came (<paramref name="Unknown"/>).</summary>
internal sealed record CreateAnswered(int Birth, FabricError? Error, bool Unknown) : VmMessage;

internal sealed record DeleteAnswered(IReadOnlyList<HostName> Unconfirmed, FabricError? Error) : VmMessage;

/// <summary>A host shows something of the VM that is over.</summary>
internal sealed record HostShows(HostName Host) : VmMessage;

/// <summary><paramref name="Answered"/>: by the agent; otherwise whether it was done is unknown.</summary>
internal sealed record Tidied(HostName Host, FabricError? Error, bool Answered) : VmMessage;

/// <summary>Answered with what all hosts say and what followed from it.</summary>
internal sealed record RepairAsked(string Reason, IReply<RepairReport> Reply) : VmMessage;

/// <summary>The hosts' words, or why they could not be gathered.</summary>
internal sealed record RepairHeard(IReadOnlyList<HostWord> Words, FabricError? Error) : VmMessage;

/// <summary>The migration in the way of a repair does not give up, or not in time.</summary>
internal sealed record RepairBlocked(MigrationId Migration, FabricError Error) : VmMessage;

/// <summary>Do again what the state asks for.</summary>
internal sealed record VmResume : VmMessage
{
    public static VmResume Instance { get; } = new();
}
