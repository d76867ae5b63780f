// The evacuation of one host: every VM once, to where there is room, and why what stays stays.
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor.Batches;

internal sealed record BatchPlan(
    string Id, HostName Host, IReadOnlyList<Placement> Placements, MigrationOptions Options, BatchLimits Limits, DateTimeOffset PlannedAt, Guid? RequestId);

internal abstract record BatchEvent(DateTimeOffset At);

internal sealed record BatchPlanned(DateTimeOffset At, BatchPlan Plan) : BatchEvent(At);

internal sealed record ItemStarted(DateTimeOffset At, VmName Vm, HostName Destination, MigrationId Migration) : BatchEvent(At);

/// <summary>The VM is tried once more, elsewhere.</summary>
internal sealed record ItemPlacedAnew(DateTimeOffset At, VmName Vm, HostName Destination, FabricError Because) : BatchEvent(At);

internal sealed record ItemMoved(DateTimeOffset At, VmName Vm) : BatchEvent(At);

internal sealed record ItemFailed(DateTimeOffset At, VmName Vm, FabricError Why) : BatchEvent(At);

internal sealed record BatchEnded(DateTimeOffset At) : BatchEvent(At);

internal static class BatchEvents
{
    public static EventCatalog<BatchEvent> Catalog { get; } = new(
        ("batch-planned", BatchJson.Default.BatchPlanned),
        ("batch-item-started", BatchJson.Default.ItemStarted),
        ("batch-item-placed-anew", BatchJson.Default.ItemPlacedAnew),
        ("batch-item-moved", BatchJson.Default.ItemMoved),
        ("batch-item-failed", BatchJson.Default.ItemFailed),
        ("batch-ended", BatchJson.Default.BatchEnded));
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, MaxDepth = 32, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(BatchPlanned))]
[JsonSerializable(typeof(ItemStarted))]
[JsonSerializable(typeof(ItemPlacedAnew))]
[JsonSerializable(typeof(ItemMoved))]
[JsonSerializable(typeof(ItemFailed))]
[JsonSerializable(typeof(BatchEnded))]
internal sealed partial class BatchJson : JsonSerializerContext;
