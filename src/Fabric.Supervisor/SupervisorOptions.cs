using System.Security.Cryptography;
using Fabric.Cluster;
using Fabric.Migration;

namespace Fabric.Supervisor;

/// <summary>Settings of a control node's supervisors.</summary>
public sealed record SupervisorOptions
{
    public static SupervisorOptions Default { get; } = new();

    /// <summary>Shards of the journal: fixed when the journal is first used, 1 to <see cref="ShardMap.MostShards"/>.</summary>
    public int Shards { get; init; } = 8;

    public LeaseOptions Lease { get; init; } = LeaseOptions.Default;

    public MigrationTimings Timings { get; init; } = MigrationTimings.Default;

    /// <summary>Migrations at once of a batch, when its request does not say.</summary>
    public BatchLimits Limits { get; init; } = BatchLimits.Default;

    /// <summary>Destinations tried for one VM of a batch.</summary>
    public int BatchAttempts { get; init; } = 2;

    /// <summary>Between two reads of the shards that other nodes hold; jitter of half.</summary>
    public TimeSpan ReadPeriod { get; init; } = TimeSpan.FromMilliseconds(250);

    /// <summary>Of one long poll for facts.</summary>
    public TimeSpan FactsWait { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Polls in a row that may fail before a host counts as unreachable.</summary>
    public int MissedPolls { get; init; } = 3;

    /// <summary>Between failed polls; jitter of half.</summary>
    public TimeSpan PollRetry { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Between tries of a command whose outcome is unknown; doubles to sixteen times, jitter of half.</summary>
    public TimeSpan CommandRetry { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Agents register every second or so: for this long after a start a host that has not registered is not called unknown.</summary>
    public TimeSpan RegisterWithin { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>A host that was silent for so long is left out of a deletion by force, and told when it comes back.</summary>
    public TimeSpan ForceAfter { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A VM, host or batch that nobody has asked anything of for so long, and that has nothing to do, leaves memory; it is read again when it is wanted.</summary>
    public TimeSpan RestAfter { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Of one question to an actor of this process. Longer than an agent's command, since some answers wait for one.</summary>
    public TimeSpan Ask { get; init; } = TimeSpan.FromSeconds(120);

    /// <summary>Where tickets come from: 32 secret bytes in hex. Replaced only by a simulation.</summary>
    public Func<Ticket> NewTicket { get; init; } = static () => new Ticket(RandomNumberGenerator.GetHexString(2 * Ticket.Bytes, lowercase: true));
}
