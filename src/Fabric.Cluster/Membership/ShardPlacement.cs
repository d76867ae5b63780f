using System.Text;
using Fabric.Journal;

namespace Fabric.Cluster.Membership;

/// <summary>
/// Which node of a view should hold which shard: rendezvous hashing (Thaler and Ravishankar, 1998). Every node computes the same from the same view; when a
/// node comes or goes, only the shards that it gains or had move. Pure.
/// </summary>
public static class ShardPlacement
{
    /// <summary>
    /// The node that should hold the shard, or null when none is up. Nodes are weighed by name, so that one that restarts gets its own shards back; of two
    /// lives of one name the later one counts.
    /// </summary>
    public static Member? Of(ClusterView view, ShardId shard)
    {
        ArgumentNullException.ThrowIfNull(view);
        Member? best = null;
        ulong most = 0;
        foreach (var member in view.Members)
        {
            if (member.State != MemberState.Up)
                continue;
            ulong weight = Weight(member.Name, shard);
            if (best is null || weight > most || (weight == most && IsBefore(best, member)))
                (best, most) = (member, weight);
        }

        return best;
    }

    /// <summary>The shards that <paramref name="node"/> should hold.</summary>
    public static HashSet<ShardId> Of(ClusterView view, Guid node, ShardMap map)
    {
        ArgumentNullException.ThrowIfNull(map);
        return [.. map.All.Where(shard => Of(view, shard)?.Node == node)];
    }

    private static bool IsBefore(Member one, Member other) =>
        string.CompareOrdinal(one.Name, other.Name) is var order && (order == 0 ? one.Since < other.Since : order < 0);

    // FNV-1a over name and shard, then the finishing mix of MurmurHash3: FNV alone leaves the weights of neighbouring shards alike.
    private static ulong Weight(string name, ShardId shard)
    {
        ulong hash = 14695981039346656037;
        foreach (byte b in Encoding.UTF8.GetBytes(name))
            hash = unchecked((hash ^ b) * 1099511628211);
        for (int i = 0; i < 4; i++)
            hash = unchecked((hash ^ (byte)(shard.Value >> (8 * i))) * 1099511628211);
        hash = unchecked((hash ^ (hash >> 33)) * 0xff51afd7ed558ccd);
        hash = unchecked((hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53);
        return hash ^ (hash >> 33);
    }
}
