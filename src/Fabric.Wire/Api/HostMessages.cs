using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Wire.Api;

/// <summary>POST /v1/hosts/{name}/cordon; the body may be left out. <paramref name="Reason"/> is kept with the cordon.</summary>
public sealed record CordonRequest(string? Reason);

/// <summary>Since when and why nothing new is placed on a host.</summary>
public sealed record CordonReport(DateTimeOffset At, string? Reason);

/// <summary>A VM as its host's agent shows it. <paramref name="Owner"/>: by the agent's ledger the right to run is there, at <paramref name="Epoch"/>.</summary>
public sealed record HostMachine(VmName Vm, VmRunState State, bool Owner, Epoch Epoch, int? ProcessId, long MemoryBytes);

/// <summary>A migration under way. direction: in, out. <paramref name="Peer"/>: the other host. <paramref name="Phase"/>: as the state of a migration.</summary>
public sealed record HostMove(MigrationId Migration, VmName Vm, string Direction, HostName Peer, string Phase);

/// <summary>
/// What GET /v1/hosts/{name} says beyond a list. <paramref name="Since"/>: of the state, as the control node that answers (<paramref name="AnsweredBy"/>) saw it; null before it heard the
/// host. <paramref name="Machines"/>: the last that the agent said.
/// </summary>
public sealed record HostDetails(
    DateTimeOffset? Since, Guid Incarnation, long MemoryUsedBytes, CordonReport? Cordon, IReadOnlyList<HostMachine> Machines, IReadOnlyList<HostMove> Moves, string AnsweredBy);
