using System.Text;
using Fabric.Journal;

namespace Fabric.Cluster;

/// <summary>
/// Which shard an entity belongs to. The number of shards is fixed for the life of a journal: it decides under which lease a stream is
/// written. All that concerns one VM (its ledger and its migrations) is in one shard, so one lease covers one VM.
/// </summary>
public sealed record ShardMap
{
    public const int MostShards = 4096;

    public ShardMap(int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, MostShards);
        Count = count;
    }

    public int Count { get; }

    public IEnumerable<ShardId> All => Enumerable.Range(0, Count).Select(static value => new ShardId(value));

    /// <param name="key"><c>vm/NAME</c>, <c>batch/ID</c> or <c>host/NAME</c>.</param>
    public ShardId Of(string key)
    {
        // FNV-1a: stable across versions and machines, unlike string.GetHashCode.
        uint hash = 2166136261;
        foreach (byte b in Encoding.UTF8.GetBytes(key))
            hash = unchecked((hash ^ b) * 16777619);
        return new ShardId((int)(hash % (uint)Count));
    }
}
