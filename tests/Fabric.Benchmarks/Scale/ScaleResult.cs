using System.Text.Json;
using System.Text.Json.Serialization;

namespace Fabric.Benchmarks.Scale;

/// <summary>Many times in milliseconds, by nearest rank.</summary>
public sealed record Times(int Count, double MedianMs, double P99Ms, double MostMs)
{
    public static Times Of(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length == 0 ? new Times(0, 0, 0, 0) : new Times(sorted.Length, At(0.5), At(0.99), sorted[^1]);

        double At(double share) => sorted[Math.Clamp((int)Math.Ceiling(share * sorted.Length) - 1, 0, sorted.Length - 1)];
    }
}

public sealed record Bar(string What, string Wanted, string Found, bool Ok);

/// <summary>What one scale run came to.</summary>
public sealed record ScaleResult
{
    public required string Machine { get; init; }

    public required string Command { get; init; }

    public required string Store { get; init; }

    public int Hosts { get; init; }

    public int Vms { get; init; }

    public int Evacuations { get; init; }

    public int PushSeconds { get; init; }

    public int RampSeconds { get; init; }

    public int Migrations { get; init; }

    public int Completed { get; init; }

    /// <summary>By durable events: claimed and not yet settled.</summary>
    public int PeakConcurrent { get; init; }

    /// <summary>Page streams open at once.</summary>
    public int PeakStreams { get; init; }

    public double CreateSeconds { get; init; }

    public double PlanSeconds { get; init; }

    public double BatchSeconds { get; init; }

    public double MigrationsPerSecond { get; init; }

    public double ProcessorSeconds { get; init; }

    public double GcPauseSeconds { get; init; }

    public double LongestGcPauseMs { get; init; }

    public string GcPauses { get; init; } = "";

    public long RssAfterCreation { get; init; }

    public long PeakRss { get; init; }

    public required Times Decisions { get; init; }

    public required IReadOnlyDictionary<string, Times> DecisionsByKind { get; init; }

    public required Times PollGaps { get; init; }

    public required Times MigrationTimes { get; init; }

    public required Times Appends { get; init; }

    public double AppendsPerSecond { get; init; }

    public long Commands { get; init; }

    public long Facts { get; init; }

    public long FactMebibytes { get; init; }

    public long LedgerAppends { get; init; }

    public long PagesMoved { get; init; }

    public required IReadOnlyDictionary<string, int> Warnings { get; init; }

    public required IReadOnlyList<Bar> Bars { get; init; }

    [JsonIgnore]
    public bool Ok => Bars.All(static bar => bar.Ok);

    public string ToJson() => JsonSerializer.Serialize(this, Json);

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
}
