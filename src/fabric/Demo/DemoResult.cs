using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Demo;

/// <summary>One thing that the demo promises. <paramref name="Detail"/> says what was found.</summary>
public sealed record DemoCheck(string Name, bool Ok, string Detail);

/// <summary>What a guest's own checkers said. Null where the guest says nothing of the kind.</summary>
public sealed record DemoGuestResult(
    VmName Name, string Workload, HostName? Host, int? Pid, bool Clean, long Beats, long SequenceBreaks, long Errors, long OkCount, IReadOnlyList<string> ErrorLines);

/// <summary>A move as the API reports it, and how long the guest says that it was stopped.</summary>
public sealed record DemoMigration(MigrationReport Report, double? GuestDowntimeMs, double? GuestUncertaintyMs, double? GuestLargestGapMs);

/// <summary>All of a demo's result, as <c>--json</c> writes it.</summary>
public sealed record DemoResult(
    bool Ok, int ExitCode, MachineKind Machine, int Hosts, DateTimeOffset StartedAt, double Seconds, IReadOnlyList<DemoMigration> Migrations,
    EvacuationReport? Evacuation, IReadOnlyList<DemoGuestResult> Guests, IReadOnlyList<DemoCheck> Checks, string? Error)
{
    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, DemoJson.Default.DemoResult);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(DemoResult))]
internal sealed partial class DemoJson : JsonSerializerContext;
