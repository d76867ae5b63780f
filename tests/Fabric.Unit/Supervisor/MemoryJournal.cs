using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Unit.Supervisor;

/// <summary>The journal's contract in memory, with a hook for a death between an append and what follows it.</summary>
internal sealed class MemoryJournal : IJournal
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ShardId, (string Holder, Epoch Epoch, Guid Term)> _shards = [];
    private readonly Dictionary<Guid, (StreamId Stream, long Sequence)> _requests = [];
    private readonly Dictionary<StreamId, (ShardId Shard, List<JournalRecord> Records)> _streams = [];
    private readonly List<StreamId> _order = [];

    /// <summary>Sees every record once it is durable; an exception loses the answer (outcome unknown).</summary>
    public Action<JournalRecord>? Appended { get; set; }

    /// <summary>Holders that cannot reach the store.</summary>
    public Func<string, bool> Refuse { get; set; } = static _ => false;

    public IReadOnlyList<JournalRecord> All
    {
        get
        {
            lock (_gate)
                return [.. _order.SelectMany(stream => _streams[stream].Records)];
        }
    }

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation)
    {
        if (Refuse(holder))
            throw new FabricException(ErrorCodes.StoreFailed, $"'{holder}' cannot reach the store");
        lock (_gate)
        {
            // Expiry is not modelled: whoever asks last holds it, as after an expiry.
            var stored = _shards.GetValueOrDefault(shard).Epoch;
            var lease = new ShardLease(shard, holder, (stored > floor ? stored : floor).Next, Guid.NewGuid(), duration);
            _shards[shard] = Key(lease);
            return Task.FromResult<(ShardLease?, JournalRefusal)>((lease, JournalRefusal.None));
        }
    }

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation)
    {
        lock (_gate)
        {
            return Task.FromResult<(ShardLease?, JournalRefusal)>(
                _shards.GetValueOrDefault(lease.Shard) == Key(lease) ? (lease with { HeldFor = duration }, JournalRefusal.None) : (null, JournalRefusal.Fenced));
        }
    }

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation) => Task.CompletedTask;

    public Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        if (Refuse(lease.Holder))
            throw new FabricException(ErrorCodes.StoreFailed, $"'{lease.Holder}' cannot reach the store");
        var written = new List<JournalRecord>();
        lock (_gate)
        {
            if (_shards.GetValueOrDefault(lease.Shard) != Key(lease))
                return Task.FromResult(JournalRefusal.Fenced);
            if (request is { } known && _requests.ContainsKey(known))
                return Task.FromResult(JournalRefusal.Repeated);
            if (!_streams.TryGetValue(stream, out var at))
            {
                _streams[stream] = at = (lease.Shard, []);
                _order.Add(stream);
            }

            if (at.Records.Count != lastSequence)
                return Task.FromResult(JournalRefusal.SequenceConflict);
            long position = _streams.Values.Where(s => s.Shard == lease.Shard).Sum(s => s.Records.Count);
            foreach (var e in events)
                written.Add(new JournalRecord(stream, ++lastSequence, ++position, lease.Epoch, e.Kind, e.Version, e.Payload, TimeProvider.System.GetUtcNow(), lease.Holder));
            at.Records.AddRange(written);
            if (request is { } asked)
                _requests[asked] = (stream, lastSequence);
        }

        foreach (var record in written)
            Appended?.Invoke(record);
        return Task.FromResult(JournalRefusal.None);
    }

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation)
    {
        lock (_gate)
            return Task.FromResult<(StreamId, long)?>(_requests.TryGetValue(request, out var at) ? at : null);
    }

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation)
    {
        lock (_gate)
        {
            return Task.FromResult<IReadOnlyList<JournalRecord>>(
                [.. _streams.Values.Where(s => s.Shard == shard).SelectMany(s => s.Records).Where(r => r.Position > afterPosition).OrderBy(r => r.Position).Take(most)]);
        }
    }

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation)
    {
        lock (_gate)
        {
            return Task.FromResult<IReadOnlyList<JournalRecord>>(
                _streams.TryGetValue(stream, out var known) ? [.. known.Records.Where(r => r.Sequence > afterSequence).Take(most)] : []);
        }
    }

    public Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation)
    {
        lock (_gate)
        {
            return Task.FromResult<IReadOnlyList<ShardStanding>>([.. _shards.OrderBy(static s => s.Key.Value).Select(s => new ShardStanding(
                s.Key, s.Value.Holder, s.Value.Epoch, true, _streams.Values.Where(stream => stream.Shard == s.Key).Sum(static stream => stream.Records.Count)))]);
        }
    }

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation)
    {
        lock (_gate)
        {
            var all = _order.Where(s => _streams[s].Shard == shard && s.Value.StartsWith(prefix, StringComparison.Ordinal)).ToList();
            int from = after is { } last ? all.IndexOf(last) + 1 : 0;
            return Task.FromResult<IReadOnlyList<StreamId>>([.. all.Skip(from).Take(most)]);
        }
    }

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation) => Task.CompletedTask;

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation) => Task.FromResult<(long, byte[])?>(null);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private static (string Holder, Epoch Epoch, Guid Term) Key(ShardLease lease) => (lease.Holder, lease.Epoch, lease.Term);
}
