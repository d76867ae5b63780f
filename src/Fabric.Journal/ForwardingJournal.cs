using Fabric.Core;

namespace Fabric.Journal;

/// <summary>A journal that passes every call on to another one, except those that a subclass does differently.</summary>
public abstract class ForwardingJournal : IJournal
{
    /// <summary>Where a call goes now; may throw, which is then what the caller sees.</summary>
    protected abstract IJournal Inner { get; }

    public virtual Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation) =>
        Inner.AcquireAsync(shard, holder, duration, floor, cancellation);

    public virtual Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation) =>
        Inner.RenewAsync(lease, duration, cancellation);

    public virtual Task ReleaseAsync(ShardLease lease, CancellationToken cancellation) => Inner.ReleaseAsync(lease, cancellation);

    public virtual Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation) =>
        Inner.AppendAsync(lease, stream, lastSequence, events, request, cancellation);

    public virtual Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation) => Inner.FindRequestAsync(request, cancellation);

    public virtual Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation) =>
        Inner.ReadAsync(stream, afterSequence, most, cancellation);

    public virtual Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation) =>
        Inner.ReadShardAsync(shard, afterPosition, most, cancellation);

    public virtual Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation) => Inner.ListShardsAsync(cancellation);

    public virtual Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation) =>
        Inner.ListStreamsAsync(shard, prefix, after, most, cancellation);

    public virtual Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation) =>
        Inner.SaveSnapshotAsync(lease, stream, sequence, state, cancellation);

    public virtual Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation) => Inner.LoadSnapshotAsync(stream, cancellation);

    /// <summary>Whether the other journal ends with this one is for the subclass to say.</summary>
    public abstract ValueTask DisposeAsync();
}
