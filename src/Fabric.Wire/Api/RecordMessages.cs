using System.Text.Json;
using Fabric.Core;

namespace Fabric.Wire.Api;

/// <summary>
/// One event of the journal: what was decided, when, by which control node (<paramref name="By"/>: its name, or its id when it is long gone), at which epoch of which shard.
/// <paramref name="Data"/> is the event as it is stored.
/// </summary>
public sealed record EventReport(int Shard, long Position, string Stream, long Sequence, DateTimeOffset At, string Kind, Epoch Epoch, string By, JsonElement Data);

/// <summary>GET /v1/events. <paramref name="Cursor"/>: what to ask after next.</summary>
public sealed record EventPage(IReadOnlyList<EventReport> Items, string Cursor);

/// <summary>
/// One shard: who holds it, at which epoch, and how many events it has (<paramref name="Position"/>), as the store says; while the store cannot be asked, as far as the node that answers
/// knows. state: held, placed (at another node, which does not hold it or cannot be seen to), waiting (placed here, not held yet), homeless.
/// </summary>
public sealed record ShardReport(int Shard, string? Node, Guid? NodeId, string State, Epoch? Epoch, long? Position, int Vms, int Migrations);

/// <summary>One control node of the view. state: joining, up, leaving, left, dead.</summary>
public sealed record NodeReport(string Name, Guid Id, string State, string ClusterUrl, string ApiUrl, DateTimeOffset Since, int Suspected);
