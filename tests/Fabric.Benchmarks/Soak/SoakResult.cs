using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Soak;

/// <summary>What is moved, how often and how.</summary>
public sealed record SoakOptions
{
    public int Moves { get; init; } = 100;

    /// <summary>Taken in turn.</summary>
    public IReadOnlyList<MigrationMode> Modes { get; init; } = [MigrationMode.PreCopy, MigrationMode.PostCopy, MigrationMode.Hybrid, MigrationMode.Auto];

    public VerifyLevel Verify { get; init; } = VerifyLevel.Full;

    public required VmSpec Guest { get; init; }

    /// <summary>The fabricd program.</summary>
    public required string Daemon { get; init; }

    /// <summary>
    /// Each round of modes begins one further than the round before, so that no mode is bound to one direction when the number of modes is even.
    /// </summary>
    public MigrationMode ModeOf(int move) => Modes[(move + move / Modes.Count) % Modes.Count];
}

/// <summary>The state after one move: who has the guest, what each daemon holds, what lies in the memory directory.</summary>
public sealed record SoakSample(int Move, HostName Holder, MigrationReport Report, IReadOnlyList<ProcessFootprint> Processes, int MemoryFolders, long Beats);

/// <summary>One thing that the soak promises, and what was found.</summary>
public sealed record SoakCheck(string Name, bool Ok, string Detail);

public sealed record SoakResult(string Machine, string Guest, int MovesAsked, double Seconds, IReadOnlyList<SoakCheck> Checks, IReadOnlyList<SoakSample> Samples)
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    [JsonIgnore]
    public bool Ok => Checks.All(c => c.Ok);

    public string ToJson() => JsonSerializer.Serialize(this, Json);
}
