using Fabric.Core;
using Fabric.Journal;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Stores;

/// <summary>The journal as one life of a control node reaches it.</summary>
internal sealed class SimJournal(World world, IJournal store, StoreWay way, SimNode node, SimProcess process) : IJournal
{
    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation) =>
        way.CallAsync(c => store.AcquireAsync(shard, holder, duration, floor, c), cancellation);

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation) =>
        way.CallAsync(c => store.RenewAsync(lease, duration, c), cancellation);

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation) => way.CallAsync(
        async c =>
        {
            await store.ReleaseAsync(lease, c);
            return true;
        },
        cancellation);

    public async Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        if (world.Plants.On("ack-before-append"))
        {
            // A planted bug: the answer comes first, the write later, if the process lives so long.
            world.After(world.Chance.Milliseconds(20, 200), () =>
            {
                if (!process.Dead)
                    world.Try(() => _ = store.AppendAsync(lease, stream, lastSequence, events, request, CancellationToken.None));
            });
            return JournalRefusal.None;
        }

        bool dies = world.Troubles.DieAt.TryGetValue(node.Name, out var at) && at.After <= 1;
        if (dies)
            world.Troubles.DieAt.Remove(node.Name);
        else if (at.After > 1)
            world.Troubles.DieAt[node.Name] = at with { After = at.After - 1 };
        if (dies && !at.Written)
            node.DieNow();
        return await way.CallAsync(
            async c =>
            {
                var refusal = await store.AppendAsync(lease, stream, lastSequence, world.Plants.Written(events), request, c);
                if (dies)
                    node.DieNow();
                return refusal;
            },
            cancellation);
    }

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation) =>
        way.CallAsync(c => store.FindRequestAsync(request, c), cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation) =>
        way.CallAsync(c => store.ReadShardAsync(shard, afterPosition, most, c), cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation) =>
        way.CallAsync(c => store.ReadAsync(stream, afterSequence, most, c), cancellation);

    public Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation) => way.CallAsync(store.ListShardsAsync, cancellation);

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation) =>
        way.CallAsync(c => store.ListStreamsAsync(shard, prefix, after, most, c), cancellation);

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation) => way.CallAsync(
        async c =>
        {
            await store.SaveSnapshotAsync(lease, stream, sequence, state, c);
            return true;
        },
        cancellation);

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation) =>
        way.CallAsync(c => store.LoadSnapshotAsync(stream, c), cancellation);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
