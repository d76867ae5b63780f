using System.Collections.Frozen;

namespace Fabric.Daemon.Configuration;

/// <summary>Every key that a daemon's configuration may have; docs/OPERATIONS.md explains each (a test compares the two).</summary>
public static class ConfigKeys
{
    public const string Name = "name";
    public const string Roles = "roles";
    public const string StateDir = "state_dir";
    public const string LogLevel = "log_level";
    public const string OwnerPid = "owner_pid";
    public const string OwnerStartTime = "owner_start_time";
    public const string TrustedNetwork = "trusted_network";
    public const string HostListen = "host.listen";
    public const string HostDataListen = "host.data_listen";
    public const string HostControlUrls = "host.control_urls";
    public const string HostMemoryDir = "host.memory_dir";
    public const string HostMemoryLimit = "host.memory_limit";
    public const string HostQemu = "host.qemu";
    public const string HostRehearse = "host.rehearse";
    public const string HostSite = "host.site";
    public const string ControlListen = "control.listen";
    public const string ControlClusterListen = "control.cluster_listen";
    public const string ControlJournal = "control.journal";
    public const string ControlDatabase = "control.database";
    public const string MovesPerSource = "control.limits.moves_per_source";
    public const string MovesPerDestination = "control.limits.moves_per_destination";
    public const string MovesPerLink = "control.limits.moves_per_link";

    public static FrozenSet<string> All { get; } = FrozenSet.Create(
        StringComparer.Ordinal,
        Name, Roles, StateDir, LogLevel, OwnerPid, OwnerStartTime, TrustedNetwork,
        HostListen, HostDataListen, HostControlUrls, HostMemoryDir, HostMemoryLimit, HostQemu, HostRehearse, HostSite,
        ControlListen, ControlClusterListen, ControlJournal, ControlDatabase, MovesPerSource, MovesPerDestination, MovesPerLink);

    public static bool IsSection(string key) => key is "host" or "control" or "control.limits";

    public static bool IsList(string key) => key is Roles or HostControlUrls;

    /// <summary>The known key that a misspelt one most likely meant, or null when none is near (edit distance above 3).</summary>
    public static string? Nearest(string key)
    {
        const int farthest = 3;
        if (key.Length > 64)
            return null;
        var best = All.Select(known => (known, distance: Distance(key, known))).Order(Comparer<(string known, int distance)>.Create(
            static (a, b) => a.distance != b.distance ? a.distance.CompareTo(b.distance) : string.CompareOrdinal(a.known, b.known))).First();
        return best.distance <= farthest ? best.known : All.Where(k => k.EndsWith("." + key, StringComparison.Ordinal)).Order(StringComparer.Ordinal).FirstOrDefault();
    }

    /// <summary>Levenshtein's edit distance, by rows.</summary>
    private static int Distance(string from, string to)
    {
        int[] row = [.. Enumerable.Range(0, to.Length + 1)];
        for (int i = 1; i <= from.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= to.Length; j++)
            {
                int above = row[j];
                row[j] = Math.Min(Math.Min(row[j] + 1, row[j - 1] + 1), diagonal + (from[i - 1] == to[j - 1] ? 0 : 1));
                diagonal = above;
            }
        }

        return row[to.Length];
    }
}
