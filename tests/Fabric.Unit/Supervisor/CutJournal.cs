using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Unit.Supervisor;

/// <summary>A node's way to the shared store, which may be cut for good.</summary>
internal sealed class CutJournal(IJournal store) : IJournal
{
    private volatile bool _cut;

    public bool IsCut
    {
        get => _cut;
        set => _cut = value;
    }

    private IJournal Store => _cut ? throw new FabricException(ErrorCodes.StoreFailed, "The node is cut off.") : store;

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation) =>
        Store.AcquireAsync(shard, holder, duration, floor, cancellation);

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation) => Store.RenewAsync(lease, duration, cancellation);

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation) => Store.ReleaseAsync(lease, cancellation);

    public Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation) =>
        Store.AppendAsync(lease, stream, lastSequence, events, request, cancellation);

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation) => Store.FindRequestAsync(request, cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation) =>
        Store.ReadAsync(stream, afterSequence, most, cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation) =>
        Store.ReadShardAsync(shard, afterPosition, most, cancellation);

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation) =>
        Store.ListStreamsAsync(shard, prefix, after, most, cancellation);

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation) =>
        Store.SaveSnapshotAsync(lease, stream, sequence, state, cancellation);

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation) => Store.LoadSnapshotAsync(stream, cancellation);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
