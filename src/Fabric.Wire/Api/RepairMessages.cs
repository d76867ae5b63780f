using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Wire.Api;

/// <summary>POST /v1/vms/{name}/repair. <paramref name="Reason"/> is kept with the event, if one is written.</summary>
public sealed record RepairRequest(string? Reason);

/// <summary>A migration away from the host, as its agent shows it. <paramref name="Epoch"/>: of the run token.</summary>
public sealed record RepairOutgoing(MigrationId Migration, SourcePhase Phase, Epoch Epoch);

/// <summary>A migration to the host, as its agent shows it. <paramref name="Epoch"/>: of the run token.</summary>
public sealed record RepairIncoming(MigrationId Migration, DestinationPhase Phase, Epoch Epoch);

/// <summary>
/// What one host says of the VM, asked for this repair. <paramref name="Answered"/> false: <paramref name="Error"/> says why there is no word of it. <paramref name="Owner"/>: by the ledger
/// of its agent the right to run is there, at <paramref name="Epoch"/>. State and what follows are null where the host does not know the VM.
/// </summary>
public sealed record RepairHost(
    HostName Host, bool Answered, string? Error, bool Owner, VmRunState? State, Epoch? Epoch, int? ProcessId, RepairOutgoing? Outgoing, RepairIncoming? Incoming);

/// <summary>
/// The answer to a repair. outcome: agrees (the journal says what the hosts say), adopted (the journal was changed to it), refused (<paramref name="Error"/> says why; nothing was changed
/// about who may run the VM). <paramref name="Ended"/>: the migration that stood in the way and was given up.
/// </summary>
public sealed record RepairReport(VmName Vm, string Outcome, ErrorBodyShort? Error, HostName? Owner, Epoch? Epoch, MigrationId? Ended, IReadOnlyList<RepairHost> Hosts);
