using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration.PageOrders;

namespace Fabric.Migration;

/// <summary>How a VM is moved. push = the VM runs at the source and pages are copied in rounds; pull = it runs at the destination and fetches what is missing.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<MigrationMode>))]
public enum MigrationMode
{
    /// <summary>push, stop-and-copy.</summary>
    [JsonStringEnumMemberName("pre-copy")] PreCopy,

    /// <summary>stop-and-copy, pull.</summary>
    [JsonStringEnumMemberName("post-copy")] PostCopy,

    /// <summary>one push round (or up to three, while each halves what is left), stop-and-copy, pull of what has become stale.</summary>
    [JsonStringEnumMemberName("hybrid")] Hybrid,

    /// <summary>pre-copy while it converges, hybrid when it does not, decided also in the middle of a round. A record of a migration names what was done, never <c>auto</c>.</summary>
    [JsonStringEnumMemberName("auto")] Auto,
}

[JsonConverter(typeof(JsonStringEnumConverter<VerifyLevel>))]
public enum VerifyLevel
{
    [JsonStringEnumMemberName("none")] None,

    /// <summary>The checksum of every frame is compared at the destination.</summary>
    [JsonStringEnumMemberName("frames")] Frames,

    /// <summary>Besides, the digests of all of memory are compared while the source's copy stands still.</summary>
    [JsonStringEnumMemberName("full")] Full,
}

/// <summary>
/// In which order the pull phase pushes what nobody asked for yet. <c>src/Fabric.Migration/PageOrders/BubbleOrder.cs</c> says how each works. With <c>-lru</c>: what was
/// written most recently goes first, as far as no pivot demands otherwise.
/// </summary>
[JsonConverter(typeof(JsonStringEnumConverter<PageOrder>))]
public enum PageOrder
{
    /// <summary>Around the newest faults, in both directions.</summary>
    [JsonStringEnumMemberName("dual-multi")] DualMulti,

    [JsonStringEnumMemberName("dual-multi-lru")] DualMultiLru,

    /// <summary>Behind the newest faults.</summary>
    [JsonStringEnumMemberName("forward-multi")] ForwardMulti,

    [JsonStringEnumMemberName("forward-multi-lru")] ForwardMultiLru,

    /// <summary>Around the last fault, in both directions.</summary>
    [JsonStringEnumMemberName("dual")] Dual,

    [JsonStringEnumMemberName("dual-lru")] DualLru,

    /// <summary>Behind the last fault, and around.</summary>
    [JsonStringEnumMemberName("forward")] Forward,

    [JsonStringEnumMemberName("forward-lru")] ForwardLru,

    /// <summary>By address; faults do not move it.</summary>
    [JsonStringEnumMemberName("push-only")] PushOnly,

    [JsonStringEnumMemberName("push-only-lru")] PushOnlyLru,
}

/// <summary>Whether the source takes what is free in the guest into its balloon before it copies (docs/decisions/0010-self-ballooning.md).</summary>
[JsonConverter(typeof(JsonStringEnumConverter<BalloonUse>))]
public enum BalloonUse
{
    [JsonStringEnumMemberName("off")] Off,

    /// <summary>Where the guest has a balloon driver that gives memory back rather than let a process be killed; others are moved as they are.</summary>
    [JsonStringEnumMemberName("auto")] Auto,
}

/// <summary>Whether pages are made shorter for the wire (docs/decisions/0013-packing.md).</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Compression>))]
public enum Compression
{
    /// <summary>Where the wire is slower than packing, as measured all along.</summary>
    [JsonStringEnumMemberName("auto")] Auto,

    [JsonStringEnumMemberName("off")] Off,
}

/// <summary>
/// What a user may set per migration; null means the cluster's setting. These are parameters, not initialized properties, since the generated
/// JSON reader keeps the defaults of parameters only: a request that leaves a field out gets its default.
/// </summary>
/// <param name="Mode">How it is moved.</param>
/// <param name="MaxDowntimeMs">Longest pause of the guest that may be planned for, in milliseconds; 1 to 60 000. Pre-copy that cannot keep it fails.</param>
/// <param name="BandwidthBytesPerSecond">Bytes a second on the wire for this migration, or null for no cap of its own.</param>
/// <param name="Verify">What is compared.</param>
/// <param name="BulkConnections">Bulk connections, 1 to <see cref="Limits.BulkConnections"/>.</param>
/// <param name="Reason">Free text for the record.</param>
/// <param name="Order">In which order a pull phase pushes.</param>
/// <param name="Pivots">Faults whose neighbourhoods are pushed at a time by the multi-pivot orders, 1 to <see cref="Limits.Pivots"/>.</param>
/// <param name="Balloon">Whether free memory is taken into the guest's balloon while it is moved, so that it is not sent.</param>
/// <param name="Compress">Whether pages are packed where that pays.</param>
public sealed record MigrationOptions(
    MigrationMode Mode = MigrationMode.Auto, int MaxDowntimeMs = 300, long? BandwidthBytesPerSecond = null, VerifyLevel Verify = VerifyLevel.Frames, int BulkConnections = 2,
    string? Reason = null, PageOrder Order = PageOrder.DualMulti, int Pivots = PullPlan.PaperPivots, BalloonUse Balloon = BalloonUse.Off,
    Compression Compress = Compression.Auto)
{
    public static MigrationOptions Default { get; } = new();

    public FabricError? Validate()
    {
        if (MaxDowntimeMs is < 1 or > 60_000)
            return Invalid($"max-downtime of {MaxDowntimeMs} ms", "Use 1 to 60000.");
        if (BandwidthBytesPerSecond is < 64 * 1024)
            return Invalid($"bandwidth of {BandwidthBytesPerSecond} bytes a second", "Use at least 64K.");
        if (BulkConnections is < 1 or > Limits.BulkConnections)
            return Invalid($"{BulkConnections} bulk connections", $"Use 1 to {Limits.BulkConnections}.");
        if (Pivots is < 1 or > Limits.Pivots)
            return Invalid($"{Pivots} pivots", $"Use 1 to {Limits.Pivots}.");
        return Reason is { Length: > Limits.ReasonCharacters } ? Invalid("an over-long reason", $"Use at most {Limits.ReasonCharacters} characters.") : null;

        static FabricError Invalid(string what, string hint) => new(ErrorCodes.InvalidArgument, $"The migration asks for {what}.", hint);
    }
}

/// <summary>Where a destination agent takes pages in. An address literal or host name, and a TCP port.</summary>
public sealed record DataEndpoint(string Address, int Port);

/// <summary>
/// The secret that lets a source's connections into one incoming migration: 32 bytes in hex, made by the supervisor for each
/// preparation, known to both agents, never logged.
/// </summary>
public sealed record Ticket(string Hex)
{
    public const int Bytes = 32;

    public override string ToString() => "ticket(…)";
}

/// <summary>Numbers of one migration, counted by the agents. Bytes, pages, milliseconds and microseconds as named; null = not known or not applicable.</summary>
public sealed record MigrationStats
{
    public long TotalBytes { get; init; }
    public long WireBytes { get; init; }
    public long PagesSent { get; init; }
    public long PagesZero { get; init; }
    public long PagesResent { get; init; }

    /// <summary>Of the pages sent, those that were packed, or on which it was tried, and among them those that went as their difference from what the destination held.</summary>
    public long PagesPacked { get; init; }
    public long PagesDelta { get; init; }
    public int Rounds { get; init; }
    public long RemainingBytes { get; init; }

    /// <summary>Bytes a second of pages that the guest writes and had not just written before, measured all through the push.</summary>
    public long? DirtyRate { get; init; }

    /// <summary>Bytes a second that crosses the wire, a moving average over the push.</summary>
    public long? WireRate { get; init; }

    /// <summary>Guest stopped → guest runs at the destination, as the source measures it: both ways of the network are in it.</summary>
    public double? DowntimeMs { get; init; }

    /// <summary>Token sent → guest running, as the destination measured it.</summary>
    public double? ResumeMs { get; init; }

    public double? ExpectedDowntimeMs { get; init; }

    /// <summary>Per cent of its CPU time that the guest is left while it is pushed; null when nothing holds it back.</summary>
    public int? CpuPercent { get; init; }

    /// <summary>Pages that the guest waited for and that had to be asked for. Of the whole pull, however many streams it took.</summary>
    public long? NetworkFaults { get; init; }

    /// <summary>Faults on pages that were on their way already or are holes at the source too. Of the whole pull.</summary>
    public long? MinorFaults { get; init; }

    /// <summary>How long the guest stood at a page that was not there, from the trap's report to the install: median, 99th percentile, and the sum over all faults.</summary>
    public double? FaultMedianUs { get; init; }
    public double? FaultP99Us { get; init; }
    public double? FaultStallMs { get; init; }

    /// <summary>The median of the network faults alone: how long a page takes that has to be asked for.</summary>
    public double? FaultServiceUs { get; init; }

    /// <summary>
    /// These numbers of one stream with those of the streams before it, which broke: what each stream counts for itself is added, what is measured or kept for the whole pull
    /// is the later one's where it has any.
    /// </summary>
    public MigrationStats After(MigrationStats? earlier) => earlier is null ? this : this with
    {
        WireBytes = WireBytes + earlier.WireBytes,
        PagesSent = PagesSent + earlier.PagesSent,
        PagesZero = PagesZero + earlier.PagesZero,
        PagesResent = PagesResent + earlier.PagesResent,
        PagesPacked = PagesPacked + earlier.PagesPacked,
        PagesDelta = PagesDelta + earlier.PagesDelta,
        Rounds = Rounds + earlier.Rounds,
        DirtyRate = DirtyRate ?? earlier.DirtyRate,
        WireRate = WireRate ?? earlier.WireRate,
        DowntimeMs = DowntimeMs ?? earlier.DowntimeMs,
        ResumeMs = ResumeMs ?? earlier.ResumeMs,
        NetworkFaults = NetworkFaults ?? earlier.NetworkFaults,
        MinorFaults = MinorFaults ?? earlier.MinorFaults,
        FaultMedianUs = FaultMedianUs ?? earlier.FaultMedianUs,
        FaultP99Us = FaultP99Us ?? earlier.FaultP99Us,
        FaultStallMs = FaultStallMs ?? earlier.FaultStallMs,
        FaultServiceUs = FaultServiceUs ?? earlier.FaultServiceUs,
    };

    /// <summary>True: everything that <see cref="VerifyLevel"/> promises was compared and equal; false: a difference was found; null: nothing was compared yet.</summary>
    public bool? Verified { get; init; }
}
