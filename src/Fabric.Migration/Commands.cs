// What a supervisor may ask of an agent about one VM. The set is closed: an agent refuses a kind that it does not know.
// Every command is idempotent by its id and fenced by two epochs (see CommandHeader).
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>
/// <paramref name="ShardEpoch"/>: the supervisor's own epoch; an agent that has seen a higher one for this VM refuses.
/// <paramref name="RunEpoch"/>: the run epoch that the command is about: the current one, or e+1 for a hand-over.
/// <paramref name="ShardTerm"/>: of the acquisition that gave the shard epoch, stamped when the command is sent. A store that was restored from an older copy gives an
/// epoch out twice; an agent obeys only one term of it.
/// </summary>
public sealed record CommandHeader(CommandId Id, VmName Vm, Epoch ShardEpoch, Epoch RunEpoch, MigrationId? Migration = null, Guid ShardTerm = default);

[JsonPolymorphic(TypeDiscriminatorPropertyName = "kind")]
[JsonDerivedType(typeof(CreateVm), "create-vm")]
[JsonDerivedType(typeof(DeleteVm), "delete-vm")]
[JsonDerivedType(typeof(PrepareIncoming), "prepare-incoming")]
[JsonDerivedType(typeof(RefuseIncoming), "refuse-incoming")]
[JsonDerivedType(typeof(StartPush), "start-push")]
[JsonDerivedType(typeof(CancelOutgoing), "cancel-outgoing")]
[JsonDerivedType(typeof(HandOver), "hand-over")]
[JsonDerivedType(typeof(TakeBack), "take-back")]
[JsonDerivedType(typeof(ServePull), "serve-pull")]
[JsonDerivedType(typeof(ReleaseSource), "release-source")]
[JsonDerivedType(typeof(SetBalloon), "set-balloon")]
public abstract record AgentCommand(CommandHeader Header);

/// <summary>Start a new VM here with the right to run (run epoch 1). Answered when it runs.</summary>
public sealed record CreateVm(CommandHeader Header, VmSpec Spec) : AgentCommand(Header);

/// <summary>
/// End the VM and forget it. Refused while a migration of it is under way, unless the header names that migration: the supervisor then says that it
/// ended `lost`, and what is left of it (the source's frozen copy, the destination's half) is ended with the VM.
/// </summary>
public sealed record DeleteVm(CommandHeader Header) : AgentCommand(Header);

/// <summary>
/// Destination: make an incoming machine and let the ticket's bearer fill it. The header's run epoch is the one of the token that will come.
/// Answered when prepared. Undo: <see cref="RefuseIncoming"/>. <paramref name="Limits"/>: of moves at once; where they are reached it is refused as busy. Null: it need not wait.
/// </summary>
public sealed record PrepareIncoming(CommandHeader Header, VmSpec Spec, HostName Source, Ticket Ticket, MigrationOptions Options, BatchLimits? Limits = null) : AgentCommand(Header);

/// <summary>
/// Destination: state durably that the token of this migration was not and never will be accepted, and remove the incoming machine.
/// Also answered positively by an agent that never heard of the migration. Refused once the token was accepted.
/// </summary>
public sealed record RefuseIncoming(CommandHeader Header, string Why) : AgentCommand(Header);

/// <summary>Source: connect and copy in rounds. Answered when accepted; progress is in the facts. Undo: <see cref="CancelOutgoing"/>. <paramref name="Limits"/>: as in <see cref="PrepareIncoming"/>.</summary>
public sealed record StartPush(CommandHeader Header, HostName Destination, DataEndpoint Endpoint, Ticket Ticket, MigrationOptions Options, BatchLimits? Limits = null) : AgentCommand(Header);

/// <summary>Source: give up the outgoing migration; the VM runs on here. Refused once the token may have left.</summary>
public sealed record CancelOutgoing(CommandHeader Header, string Why) : AgentCommand(Header);

/// <summary>
/// Source: pass the run token e+1 to the destination (docs/PROTOCOL.md). Answered when recorded; the outcome is in the facts.
/// <paramref name="Mode"/> is PreCopy (nothing may be missing) or PostCopy (the rest is pulled).
/// </summary>
public sealed record HandOver(CommandHeader Header, MigrationMode Mode) : AgentCommand(Header);

/// <summary>Source: the destination has durably refused the token; run again, at the header's run epoch (above the refused one).</summary>
public sealed record TakeBack(CommandHeader Header, Epoch RefusedEpoch) : AgentCommand(Header);

/// <summary>Source: (re)connect to the destination and serve what it misses. Answered when accepted.</summary>
public sealed record ServePull(CommandHeader Header, DataEndpoint Endpoint, Ticket Ticket) : AgentCommand(Header);

/// <summary>Source: the VM runs elsewhere and needs nothing from here; end the machine and remove what it had. Answered when gone.</summary>
public sealed record ReleaseSource(CommandHeader Header) : AgentCommand(Header);

/// <summary>Ask the guest to shrink or grow to so many bytes.</summary>
public sealed record SetBalloon(CommandHeader Header, long Bytes) : AgentCommand(Header);

/// <summary>
/// The answer to a command; stored by the agent and given again when the same id is asked again. <paramref name="Seen"/>: refused because this shard epoch has spoken
/// for the VM already; not stored.
/// </summary>
public sealed record CommandResult(CommandId Id, FabricError? Error, Epoch? Seen = null)
{
    [JsonIgnore]
    public bool Ok => Error is null;
}
