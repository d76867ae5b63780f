using Fabric.Core;

namespace Fabric.Cli.Local;

/// <summary>One host of a topology. A <paramref name="MemoryLimit"/> (bytes for guests) of null means what the machine has; a <paramref name="Site"/> of null, that it is in none.</summary>
public sealed record TopologyHost(string Name, SiteName? Site = null, long? MemoryLimit = null);

/// <summary>Moves at once in an evacuation; null: the daemons' default.</summary>
public sealed record TopologyLimits(int? MovesPerSource = null, int? MovesPerDestination = null, int? MovesPerLink = null);

/// <summary>What the control nodes of a cluster keep everything in.</summary>
public abstract record TopologyStore;

/// <summary>An SQLite file: of one control node, or shared by several, which works since they are processes of one machine.</summary>
public sealed record SqliteStore : TopologyStore;

/// <summary>A PostgreSQL server of the cluster's own, which starts and ends with it.</summary>
public sealed record ManagedPostgresStore : TopologyStore;

/// <summary>A PostgreSQL database that is there already.</summary>
public sealed record PostgresStore(string Connection) : TopologyStore
{
    /// <summary>Without the connection string: it may hold a password.</summary>
    public override string ToString() => nameof(PostgresStore);
}

/// <summary>Who a local cluster consists of. Names are members' directories, so they are unique over control nodes and hosts.</summary>
/// <param name="Name">Null when it was made without a file.</param>
public sealed record ClusterTopology(string? Name, IReadOnlyList<string> Controls, IReadOnlyList<TopologyHost> Hosts, TopologyStore Store, TopologyLimits Limits)
{
    public const int MostHosts = 8;
    public const int MostControls = 5;

    /// <summary>The names that hosts get where only their number is said, in order.</summary>
    public static IReadOnlyList<string> HostNames { get; } = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];

    /// <param name="controls">1 to <see cref="MostControls"/>.</param>
    /// <param name="hosts">1 to <see cref="MostHosts"/>.</param>
    /// <param name="database">A connection string; null: an SQLite file.</param>
    /// <exception cref="FabricException">invalid-argument: a number that is out of range.</exception>
    public static ClusterTopology Of(int controls, int hosts, string? database)
    {
        if (hosts is < 1 or > MostHosts)
            throw new FabricException(ErrorCodes.InvalidArgument, $"{hosts} hosts are not accepted.", $"Use 1 to {MostHosts}.");
        if (controls is < 1 or > MostControls)
            throw new FabricException(ErrorCodes.InvalidArgument, $"{controls} control nodes are not accepted.", $"Use 1 to {MostControls}.");
        return new ClusterTopology(
            null, [.. MemberConfig.ControlNames(controls)], [.. HostNames.Take(hosts).Select(static name => new TopologyHost(name))],
            database is null ? new SqliteStore() : new PostgresStore(database), new TopologyLimits());
    }
}
