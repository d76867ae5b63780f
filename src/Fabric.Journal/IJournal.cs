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
/// <paramref name="Term"/> is random and new with every acquisition: a store that was restored from an older copy may give an epoch out twice, but never the pair.
/// <paramref name="HeldFor"/> counts from before the store was asked: the holder stops itself by its own monotonic clock when it has passed.
/// </summary>
public sealed record ShardLease(ShardId Shard, string Holder, Epoch Epoch, Guid Term, TimeSpan HeldFor);

/// <summary>
/// How a shard stands in the store. <paramref name="Holder"/>: who may append to it; null when it was given back. <paramref name="IsLeased"/>: the lease has not run out by the store's clock.
/// <paramref name="Position"/>: of its last event, 0 before the first.
/// </summary>
public sealed record ShardStanding(ShardId Shard, string? Holder, Epoch Epoch, bool IsLeased, long Position);

/// <summary>An event about to be written. <paramref name="Payload"/> is UTF-8 JSON; <paramref name="Kind"/> is a stable name, never a type name.</summary>
public sealed record NewEvent(string Kind, int Version, byte[] Payload);

/// <summary>An event as stored. Sequences of a stream begin at 1 and have no gap; neither have <paramref name="Position"/>s, which count all events of the stream's shard.</summary>
public sealed record JournalRecord(
    StreamId Stream, long Sequence, long Position, Epoch Epoch, string Kind, int Version, byte[] Payload, DateTimeOffset AppendedAt, string Holder);

/// <summary>Why an append or a lease was refused. A refusal is certain; an exception means the outcome is unknown.</summary>
public enum JournalRefusal
{
    None,

    /// <summary>The shard has a newer epoch, another term or another holder.</summary>
    Fenced,

    /// <summary>The stream is not where the writer believed.</summary>
    SequenceConflict,

    /// <summary>Somebody else holds an unexpired lease.</summary>
    HeldByAnother,

    /// <summary>An append with this request id was written before: see <see cref="IJournal.FindRequestAsync"/>.</summary>
    Repeated,

    /// <summary>The holder is dead, or has left, in the membership view. That is final: a restarted node is a new member.</summary>
    NoMember,
}

/// <summary>
/// The ledger: what was decided, in order, by whom, at which epoch. One contract for SQLite (one machine) and PostgreSQL (a cluster).
/// Every append is one transaction: lock the shard row, compare epoch, term and holder, insert with unique (stream, sequence).
/// A <see cref="FabricException"/> with code store-failed from any member means that the outcome is unknown: re-read before going on.
/// </summary>
public interface IJournal : IAsyncDisposable
{
    /// <summary>
    /// Takes the shard if it is free, expired by the store's clock, already held by <paramref name="holder"/>, or held by a node that is no member any more
    /// (<see cref="Member.Holder"/>). The new epoch is above the stored one and above <paramref name="floor"/>: the highest that agents say they have seen.
    /// </summary>
    Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation);

    Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation);

    /// <summary>Gives the shard back; a lease that is no longer ours is left alone.</summary>
    Task ReleaseAsync(ShardLease lease, CancellationToken cancellation);

    /// <summary>
    /// Writes all events or none, durably, after <paramref name="lastSequence"/> (0 for a new stream). A <paramref name="request"/> is remembered in the same
    /// transaction, for ever and in all shards: it executes once, whichever control node it reaches.
    /// </summary>
    Task<JournalRefusal> AppendAsync(ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation);

    /// <summary>Where the append with this request id is: its stream and the sequence of its last event; null when there is none.</summary>
    Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation);

    /// <summary>The events after <paramref name="afterSequence"/>, in order, at most <paramref name="most"/>.</summary>
    Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation);

    /// <summary>The events of all streams of a shard after <paramref name="afterPosition"/>, in the order in which they were written, at most <paramref name="most"/>.</summary>
    Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation);

    /// <summary>Every shard that was ever held, as it stands at one moment, in the order of their numbers.</summary>
    Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation);

    /// <summary>Streams of a shard whose name begins with <paramref name="prefix"/>, in order of creation, after <paramref name="after"/> (null: from the first).</summary>
    Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation);

    Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation);

    Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation);
}

public static class PlainAppends
{
    /// <summary>An append that no outside request asked for.</summary>
    public static Task<JournalRefusal> AppendAsync(
        this IJournal journal, ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(journal);
        return journal.AppendAsync(lease, stream, lastSequence, events, request: null, cancellation);
    }
}
