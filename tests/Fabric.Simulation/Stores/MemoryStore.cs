using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Simulation.Stores;

/// <summary>The store's contract in memory, whole: expiry by its clock, fencing by epoch and term, unique sequences; and the view of the cluster. Any thread.</summary>
internal sealed partial class MemoryStore(TimeProvider clock) : IJournal, IMembership
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ShardId, (string? Holder, Epoch Epoch, Guid Term, DateTimeOffset Until)> _shards = [];
    private readonly Dictionary<ShardId, List<JournalRecord>> _inOrder = [];
    private readonly Dictionary<Guid, (StreamId Stream, long Sequence)> _requests = [];
    private readonly Dictionary<StreamId, (ShardId Shard, List<JournalRecord> Records)> _streams = [];
    private readonly Dictionary<StreamId, (long Sequence, byte[] State)> _snapshots = [];
    private readonly List<StreamId> _order = [];
    private int _terms;

    /// <summary>Sees each record when it is durable.</summary>
    internal Action<ShardId, JournalRecord> Committed { get; set; } = static (_, _) => { };

    internal Action<ShardLease> Acquired { get; set; } = static _ => { };

    /// <summary>Who may append to a shard; null: nobody since it was given back, or it was never held.</summary>
    internal string? HolderOf(ShardId shard)
    {
        lock (_gate)
            return _shards.GetValueOrDefault(shard).Holder;
    }

    /// <summary>Planted bugs: what the store forgets to compare.</summary>
    internal Func<string, bool> Forgets { get; set; } = static _ => false;

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        JournalRules.RequireHolder(holder, duration);
        JournalRules.RequireFloor(floor);
        lock (_gate)
        {
            if (IsFinalMember(holder))
                return Answer(null, JournalRefusal.NoMember);
            var known = _shards.GetValueOrDefault(shard);
            if (known.Holder is not null && known.Holder != holder && known.Until > clock.GetUtcNow() && !IsFinalMember(known.Holder))
                return Answer(null, JournalRefusal.HeldByAnother);
            var epoch = known.Holder is not null && Forgets("reuse-epoch") ? known.Epoch : (known.Epoch > floor ? known.Epoch : floor).Next;
            var term = new Guid(++_terms, 0, 0, new byte[8]);
            _shards[shard] = (holder, epoch, term, clock.GetUtcNow() + duration);
            var lease = new ShardLease(shard, holder, epoch, term, duration);
            Acquired(lease);
            return Answer(lease, JournalRefusal.None);
        }
    }

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        JournalRules.RequireHolder(lease.Holder, duration);
        lock (_gate)
        {
            if (!Holds(lease))
                return Answer(null, JournalRefusal.Fenced);
            _shards[lease.Shard] = (lease.Holder, lease.Epoch, lease.Term, clock.GetUtcNow() + duration);
            return Answer(lease with { HeldFor = duration }, JournalRefusal.None);
        }
    }

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
        {
            if (Holds(lease))
                _shards[lease.Shard] = (null, lease.Epoch, default, DateTimeOffset.MinValue);
            return Task.CompletedTask;
        }
    }

    public Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        JournalRules.RequireAppend(lease, stream, lastSequence, events, request);
        lock (_gate)
        {
            if (!Holds(lease) && !Forgets("unfenced-append"))
                return Task.FromResult(JournalRefusal.Fenced);
            bool isNew = !_streams.TryGetValue(stream, out var known);
            if (!isNew && known.Shard != lease.Shard)
                throw new FabricException(ErrorCodes.Conflict, $"Stream '{stream}' belongs to shard {known.Shard.Value}, not to {lease.Shard.Value}.");
            if (request is { } id && _requests.ContainsKey(id))
                return Task.FromResult(JournalRefusal.Repeated);
            if ((isNew ? 0 : known.Records.Count) != lastSequence)
                return Task.FromResult(JournalRefusal.SequenceConflict);
            if (isNew)
            {
                _streams[stream] = known = (lease.Shard, []);
                _order.Add(stream);
            }

            if (!_inOrder.TryGetValue(lease.Shard, out var order))
                _inOrder[lease.Shard] = order = [];
            foreach (var e in events)
            {
                var record = new JournalRecord(stream, ++lastSequence, order.Count + 1, lease.Epoch, e.Kind, e.Version, e.Payload, clock.GetUtcNow(), lease.Holder);
                known.Records.Add(record);
                order.Add(record);
                Committed(lease.Shard, record);
            }

            if (request is { } named)
                _requests[named] = (stream, lastSequence);
            return Task.FromResult(JournalRefusal.None);
        }
    }

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
            return Task.FromResult<(StreamId, long)?>(_requests.TryGetValue(request, out var found) ? found : null);
    }

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        JournalRules.RequireMost(most);
        lock (_gate)
            return Task.FromResult<IReadOnlyList<JournalRecord>>(_inOrder.TryGetValue(shard, out var order) ? [.. order.Skip((int)afterPosition).Take(most)] : []);
    }

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        JournalRules.RequireMost(most);
        lock (_gate)
            return Task.FromResult<IReadOnlyList<JournalRecord>>(_streams.TryGetValue(stream, out var known) ? [.. known.Records.Where(r => r.Sequence > afterSequence).Take(most)] : []);
    }

    public Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
        {
            return Task.FromResult<IReadOnlyList<ShardStanding>>([.. _shards.OrderBy(static s => s.Key.Value).Select(s => new ShardStanding(
                s.Key, s.Value.Holder, s.Value.Epoch, s.Value.Holder is not null && s.Value.Until > clock.GetUtcNow(), _inOrder.TryGetValue(s.Key, out var order) ? order.Count : 0))]);
        }
    }

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        JournalRules.RequireMost(most);
        lock (_gate)
        {
            var all = _order.Where(s => _streams[s].Shard == shard && s.Value.StartsWith(prefix, StringComparison.Ordinal)).ToList();
            int from = after is { } last ? all.IndexOf(last) + 1 : 0;
            return Task.FromResult<IReadOnlyList<StreamId>>([.. all.Skip(from).Take(most)]);
        }
    }

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
        {
            if (!_streams.TryGetValue(stream, out var known) || sequence > known.Records.Count)
                throw new FabricException(ErrorCodes.InvalidArgument, $"Stream '{stream}' has no event {sequence}.");
            if (!Holds(lease))
                throw new FabricException(ErrorCodes.RefusedByEpoch, $"Shard {lease.Shard.Value} is not held at epoch {lease.Epoch}.");
            if (sequence > _snapshots.GetValueOrDefault(stream).Sequence)
                _snapshots[stream] = (sequence, state);
            return Task.CompletedTask;
        }
    }

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
            return Task.FromResult<(long, byte[])?>(_snapshots.TryGetValue(stream, out var snapshot) ? snapshot : null);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private bool Holds(ShardLease lease) => _shards.GetValueOrDefault(lease.Shard) is var (holder, epoch, term, _) && holder == lease.Holder && epoch == lease.Epoch && term.Equals(lease.Term);

    private static Task<(ShardLease? Lease, JournalRefusal Refusal)> Answer(ShardLease? lease, JournalRefusal refusal) => Task.FromResult((lease, refusal));
}
