using Fabric.Core;

namespace Fabric.Journal;

/// <summary>A shard of supervisors: the unit that is leased, fenced and moved between control nodes.</summary>
public readonly record struct ShardId(int Value);

/// <summary>One event-sourced entity: <c>migration/0192…</c>, <c>batch/…</c>, <c>vm/web-1</c>, <c>host/alpha</c>. At most 200 characters.</summary>
public readonly record struct StreamId(string Value)
{
    public override string ToString() => Value;
}

/// <summary>
/// The right to append to a shard. <paramref name="Epoch"/> is raised by every acquisition, also by the same holder; renewing never raises it.
/// <paramref name="HeldFor"/> counts from before the store was asked: the holder stops itself by its own monotonic clock when it has passed.
/// </summary>
public sealed record ShardLease(ShardId Shard, string Holder, Epoch Epoch, TimeSpan HeldFor);

/// <summary>An event about to be written. <paramref name="Payload"/> is UTF-8 JSON; <paramref name="Kind"/> is a stable name, never a type name.</summary>
public sealed record NewEvent(string Kind, int Version, byte[] Payload);

/// <summary>An event as stored. Sequences of a stream begin at 1 and have no gap.</summary>
public sealed record JournalRecord(StreamId Stream, long Sequence, Epoch Epoch, string Kind, int Version, byte[] Payload, DateTimeOffset AppendedAt, string Holder);

/// <summary>Why an append or a lease was refused. A refusal is certain; an exception means the outcome is unknown.</summary>
public enum JournalRefusal
{
    None,

    /// <summary>The shard has a newer epoch, or another holder.</summary>
    Fenced,

    /// <summary>The stream is not where the writer believed.</summary>
    SequenceConflict,

    /// <summary>Somebody else holds an unexpired lease.</summary>
    HeldByAnother,
}

/// <summary>
/// The ledger: what was decided, in order, by whom, at which epoch. One contract for SQLite (one machine) and PostgreSQL (a cluster).
/// Every append is one transaction: lock the shard row, compare the epoch, insert with unique (stream, sequence).
/// A <see cref="FabricException"/> with code store-failed from any member means that the outcome is unknown: re-read before going on.
/// </summary>
public interface IJournal : IAsyncDisposable
{
    /// <summary>Takes the shard if it is free, expired or already held by <paramref name="holder"/>; raises the epoch. Expiry is judged by the store's clock.</summary>
    Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, CancellationToken cancellation);

    Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation);

    /// <summary>Gives the shard back; a lease that is no longer ours is left alone.</summary>
    Task ReleaseAsync(ShardLease lease, CancellationToken cancellation);

    /// <summary>Writes all events or none, durably, after <paramref name="lastSequence"/> (0 for a new stream).</summary>
    Task<JournalRefusal> AppendAsync(ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, CancellationToken cancellation);

    /// <summary>The events after <paramref name="afterSequence"/>, in order, at most <paramref name="most"/>.</summary>
    Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation);

    /// <summary>Streams of a shard whose name begins with <paramref name="prefix"/>, in order of creation, after <paramref name="after"/> (null: from the first).</summary>
    Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation);

    Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation);

    Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation);
}
