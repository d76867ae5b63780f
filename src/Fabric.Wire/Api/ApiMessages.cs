// The operators' API (/v1/…): JSON, snake_case, names are a contract that people script against. Fields that do not apply are null, not absent.
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Wire.Api;

public sealed record MemoryReport(
    long TotalBytes, long WireBytes, long PagesSent, long PagesZero, long PagesResent, IReadOnlyDictionary<string, long> PagesFromSource,
    long PagesPacked = 0, long PagesDelta = 0);

/// <summary>Of a pull. <paramref name="StallMs"/>: how long the guest's processors waited for pages, over all faults.</summary>
public sealed record FaultReport(long? Network, long? Minor, double? MedianUs, double? P99Us, double? StallMs = null, double? ServiceMedianUs = null);

public sealed record DiskReport(long TotalBytes, long WireBytes, long BlocksPushed, long BlocksPulled);

/// <summary>What is known while it runs; null after the end. <paramref name="CpuPercent"/>: per cent of its CPU time that the guest is left; null when nothing holds it back.</summary>
public sealed record ProgressReport(
    string Phase, double? Percent, long BytesDone, long BytesLeft, long? Rate, long? DirtyRate, int Round, double? EtaSeconds, double? ExpectedDowntimeMs, int? CpuPercent = null);

/// <summary>
/// GET /v1/migrations/{id}: the result of a migration (the contract of <c>fabric migration show ID -o json</c>).
/// state: planned, prepared, pushing, stopping, token-sent, pulling, recovering, cleanup, completed, failed, aborted, recovered, lost, needs-fencing.
/// </summary>
public sealed record MigrationReport(
    MigrationId Id, VmName Vm, HostName Source, HostName Destination, MigrationMode Mode, string State, string? Reason, ErrorBodyShort? Error,
    DateTimeOffset StartedAt, double? TotalMs, double? DowntimeMs, double? ResumeMs, int Rounds, MemoryReport Memory, FaultReport Faults,
    DiskReport? Disk, bool? Verified, VerifyLevel Verify, Epoch Epoch, ProgressReport? Progress, string? Batch);

public sealed record ErrorBodyShort(string Code, string Message);

/// <summary>GET /v1/hosts/{name}. state: ready, cordoned, unreachable. <paramref name="Details"/>: null in lists.</summary>
public sealed record HostReport(
    HostName Name, string State, bool Cordoned, Uri? AgentUrl, DataEndpoint? Data, long MemoryBytes, long MemoryFreeBytes, int Cpus, IReadOnlyList<VmName> Vms, DateTimeOffset? LastSeen, string? Version,
    SiteName? Site = null, HostDetails? Details = null);

/// <summary>GET /v1/vms/{name}. state: running, paused, migrating, starting, exited, lost, unknown.</summary>
public sealed record VmReport(
    VmName Name, HostName? Host, string State, MachineKind Machine, Accelerator Accelerator, long MemoryBytes, int Vcpus, Epoch Epoch, int? ProcessId, MigrationId? Migration, VmSpec Spec);

/// <summary>POST /v1/vms. The VM starts on <paramref name="Host"/>.</summary>
public sealed record CreateVmRequest(VmSpec Spec, HostName Host);

/// <summary>
/// POST /v1/migrations → 202 with <see cref="MigrationReport"/>. <paramref name="RequestId"/> makes a repeated request harmless.
/// <paramref name="Batch"/>: the evacuation that asks, when it runs on another control node than the VM's shard, and its <paramref name="Limits"/>.
/// </summary>
public sealed record MigrateRequest(VmName Vm, HostName Destination, MigrationOptions Options, Guid? RequestId, string? Batch = null, BatchLimits? Limits = null);

/// <summary>POST /v1/migrations/{id}/abort.</summary>
public sealed record AbortRequest(string? Reason);

/// <summary>POST /v1/evacuations. Limits: null takes the cluster's defaults.</summary>
public sealed record EvacuateRequest(HostName Host, int? Parallel, bool DryRun, MigrationOptions Options, Guid? RequestId);

/// <summary>One VM of an evacuation. state: planned, waiting, migrating, moved, failed, stays.</summary>
public sealed record EvacuationItem(VmName Vm, HostName? Destination, string State, MigrationId? Migration, string? Why);

/// <summary>GET /v1/evacuations/{id}. state: planned (dry run), running, done, partly-done, failed.</summary>
public sealed record EvacuationReport(string Id, HostName Host, string State, bool DryRun, IReadOnlyList<EvacuationItem> Items, DateTimeOffset StartedAt, double? TotalMs);

/// <summary>GET /v1/vms/{name}/console?offset=N: the serial line's text from an offset of bytes.</summary>
public sealed record ConsoleChunk(long Offset, long NextOffset, string Text);

/// <summary>GET /v1/changes?after=N&amp;wait_ms=M: the version of all that the API shows; it grows with every change.</summary>
public sealed record ChangeReport(long Version);

public sealed record Listing<T>(IReadOnlyList<T> Items);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    AllowOutOfOrderMetadataProperties = true,
    MaxDepth = 32,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(MigrationReport))]
[JsonSerializable(typeof(HostReport))]
[JsonSerializable(typeof(VmReport))]
[JsonSerializable(typeof(EvacuationReport))]
[JsonSerializable(typeof(CreateVmRequest))]
[JsonSerializable(typeof(MigrateRequest))]
[JsonSerializable(typeof(AbortRequest))]
[JsonSerializable(typeof(EvacuateRequest))]
[JsonSerializable(typeof(CordonRequest))]
[JsonSerializable(typeof(RepairRequest))]
[JsonSerializable(typeof(RepairReport))]
[JsonSerializable(typeof(ConsoleChunk))]
[JsonSerializable(typeof(ChangeReport))]
[JsonSerializable(typeof(EventPage))]
[JsonSerializable(typeof(Listing<EventReport>))]
[JsonSerializable(typeof(Listing<ShardReport>))]
[JsonSerializable(typeof(Listing<NodeReport>))]
[JsonSerializable(typeof(Listing<MigrationReport>))]
[JsonSerializable(typeof(Listing<HostReport>))]
[JsonSerializable(typeof(Listing<VmReport>))]
[JsonSerializable(typeof(Listing<EvacuationReport>))]
public sealed partial class ApiJson : JsonSerializerContext;
