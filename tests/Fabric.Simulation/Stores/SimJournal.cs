using Fabric.Core;
using Fabric.Journal;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Stores;

/// <summary>What goes wrong between a control node and the store. One object for all nodes: the store is one.</summary>
internal sealed class StoreTroubles
{
    /// <summary>World time until which nobody reaches the store.</summary>
    internal TimeSpan DownUntil { get; set; }

    /// <summary>World time until which calls fail before, fail after or take long, by chance.</summary>
    internal TimeSpan FlakyUntil { get; set; }

    /// <summary>Nodes that cannot reach it, until when.</summary>
    internal Dictionary<string, TimeSpan> CutUntil { get; } = new(StringComparer.Ordinal);

    /// <summary>The node that dies at its append that is still so many appends away, before or after it is durable.</summary>
    internal Dictionary<string, (int After, bool Written)> DieAt { get; } = new(StringComparer.Ordinal);
}

/// <summary>The store as one life of a control node reaches it: late, not at all, or with an outcome that nobody can tell.</summary>
internal sealed class SimJournal(World world, IJournal store, SimNode node, SimProcess process) : IJournal
{
    private enum Fate
    {
        Done,
        FailsBefore,
        FailsAfter,

        /// <summary>The caller hears that nobody knows; a while later it is done after all, or refused because the world went on.</summary>
        LandsLate,
    }

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation) =>
        CallAsync(() => store.AcquireAsync(shard, holder, duration, floor, cancellation), cancellation);

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation) =>
        CallAsync(() => store.RenewAsync(lease, duration, cancellation), cancellation);

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation) => CallAsync(
        async () =>
        {
            await store.ReleaseAsync(lease, cancellation);
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
        return await CallAsync(
            async () =>
            {
                var refusal = await store.AppendAsync(lease, stream, lastSequence, world.Plants.Written(events), request, cancellation);
                if (dies)
                    node.DieNow();
                return refusal;
            },
            cancellation);
    }

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation) =>
        CallAsync(() => store.FindRequestAsync(request, cancellation), cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation) =>
        CallAsync(() => store.ReadShardAsync(shard, afterPosition, most, cancellation), cancellation);

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation) =>
        CallAsync(() => store.ReadAsync(stream, afterSequence, most, cancellation), cancellation);

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation) =>
        CallAsync(() => store.ListStreamsAsync(shard, prefix, after, most, cancellation), cancellation);

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation) => CallAsync(
        async () =>
        {
            await store.SaveSnapshotAsync(lease, stream, sequence, state, cancellation);
            return true;
        },
        cancellation);

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation) =>
        CallAsync(() => store.LoadSnapshotAsync(stream, cancellation), cancellation);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>The call reaches the store after a while, is done there whole or not at all, and its answer takes a while.</summary>
    private async Task<T> CallAsync<T>(Func<Task<T>> call, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var (fate, there, back) = Draw();
        var answer = new TaskCompletionSource<T>();
        world.After(there, () =>
        {
            if (process.Dead && fate == Fate.FailsBefore)
                return;
            if (fate == Fate.FailsBefore)
                answer.TrySetException(NotReached());
            else
                Do(call, fate, back, answer);
        });
        if (fate == Fate.LandsLate)
            world.After(there / 2, () => answer.TrySetException(NotReached()));
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        return await answer.Task;
    }

    private void Do<T>(Func<Task<T>> call, Fate fate, TimeSpan back, TaskCompletionSource<T> answer)
    {
        try
        {
#pragma warning disable VSTHRD002, VSTHRD104 // The store in memory has the answer when it returns.
            var result = call().GetAwaiter().GetResult();
#pragma warning restore VSTHRD002, VSTHRD104
            world.After(back, () =>
            {
                if (fate == Fate.FailsAfter)
                    answer.TrySetException(NotReached());
                else
                    answer.TrySetResult(result);
            });
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException)
        {
            world.After(back, () => answer.TrySetException(e));
        }
    }

    private (Fate Fate, TimeSpan There, TimeSpan Back) Draw()
    {
        var chance = world.Chance;
        var (there, back) = (chance.Milliseconds(0.1, 2), chance.Milliseconds(0.1, 2));
        if (world.Troubles.DownUntil > world.Now || world.Troubles.CutUntil.GetValueOrDefault(node.Name) > world.Now)
            return (Fate.FailsBefore, chance.Milliseconds(1, 3000), back);
        if (world.Troubles.FlakyUntil <= world.Now)
            return (Fate.Done, there, back);
        return chance.Below(8) switch
        {
            0 => (Fate.FailsBefore, there, back),
            1 => (Fate.FailsAfter, there, back),
            2 => (Fate.Done, there, chance.Milliseconds(10, 6000)),
            3 => (Fate.Done, chance.Milliseconds(10, 6000), back),
            4 => (Fate.LandsLate, chance.Milliseconds(10, 6000), back),
            _ => (Fate.Done, there, back),
        };
    }

    private FabricException NotReached() => new(ErrorCodes.StoreFailed, $"{node.Name} cannot tell what became of its call to the store.");
}
