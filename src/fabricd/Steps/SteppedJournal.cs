using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Daemon.Steps;

/// <summary>Every event passes the gate before it is appended and after it is durable.</summary>
internal sealed class SteppedJournal(IJournal inner, StepGate gate) : IJournal
{
    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation) =>
        inner.AcquireAsync(shard, holder, duration, floor, cancellation);

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation) =>
        inner.RenewAsync(lease, duration, cancellation);

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation) => inner.ReleaseAsync(lease, cancellation);

    public async Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        foreach (var happened in events)
            gate.Pass("before", happened.Kind, stream.Value);
        var refusal = await inner.AppendAsync(lease, stream, lastSequence, events, request, cancellation);
        if (refusal == JournalRefusal.None)
        {
            foreach (var happened in events)
                gate.Pass("after", happened.Kind, stream.Value);
        }

        return refusal;
    }

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation) => inner.FindRequestAsync(request, cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation) =>
        inner.ReadAsync(stream, afterSequence, most, cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation) =>
        inner.ReadShardAsync(shard, afterPosition, most, cancellation);

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation) =>
        inner.ListStreamsAsync(shard, prefix, after, most, cancellation);

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation) =>
        inner.SaveSnapshotAsync(lease, stream, sequence, state, cancellation);

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation) => inner.LoadSnapshotAsync(stream, cancellation);

    public ValueTask DisposeAsync() => inner.DisposeAsync();
}
