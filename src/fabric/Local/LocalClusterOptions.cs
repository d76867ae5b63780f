using System.Collections.ObjectModel;
using System.Net;

namespace Fabric.Cli.Local;

/// <summary>
/// Where on this machine a member runs. <paramref name="Enter"/> is put before the daemon's command and must give way to it (exec, as <c>ip netns exec NAME</c> does), so that the process
/// that was started is the daemon. <paramref name="Address"/> is what it serves on; one that is not loopback lies in <paramref name="Wire"/>, which every member trusts.
/// </summary>
public sealed record MemberPlace(IReadOnlyList<string> Enter, IPAddress Address, IPNetwork? Wire)
{
    /// <summary>Beside this process, on loopback.</summary>
    public static MemberPlace Here { get; } = new([], IPAddress.Loopback, null);
}

/// <summary>How to make a local cluster: control nodes and hosts, all processes of this machine.</summary>
public sealed record LocalClusterOptions
{
    /// <summary>Absolute; made if missing, short enough for Unix sockets below it (at most 48 characters).</summary>
    public required string Directory { get; init; }

    /// <summary>The fabricd program: an executable or a .dll.</summary>
    public required string Daemon { get; init; }

    /// <summary>Who the cluster consists of; null: what <see cref="Hosts"/>, <see cref="Controls"/> and <see cref="Database"/> say.</summary>
    public ClusterTopology? Topology { get; init; }

    /// <summary>1 to <see cref="ClusterTopology.MostHosts"/>.</summary>
    public int Hosts { get; init; } = 3;

    /// <summary>1 to <see cref="ClusterTopology.MostControls"/> control nodes.</summary>
    public int Controls { get; init; } = 1;

    /// <summary>The PostgreSQL database of the control nodes, as a connection string; null: an SQLite file, which several nodes on one machine can share.</summary>
    public string? Database { get; init; }

    /// <summary>The cluster ends with this process, also when it is killed.</summary>
    public bool Ephemeral { get; init; }

    /// <summary>Where guests' memory files go (tmpfs).</summary>
    public string MemoryDirectory { get; init; } = "/dev/shm";

    /// <summary>Bound on each step of the start: a daemon serving, all hosts registered.</summary>
    public TimeSpan StartWithin { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Further settings of every daemon, as <c>--set</c> takes them.</summary>
    public IReadOnlyList<string> Settings { get; init; } = [];

    /// <summary>Where members run, by name; those that are not named run on loopback. Places and their removal are the caller's.</summary>
    public IReadOnlyDictionary<string, MemberPlace> Places { get; init; } = ReadOnlyDictionary<string, MemberPlace>.Empty;

    /// <summary>Variables that every daemon gets besides those of this process.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; init; } = ReadOnlyDictionary<string, string>.Empty;
}
