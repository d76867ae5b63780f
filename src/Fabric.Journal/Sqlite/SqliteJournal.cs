using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

/// <summary>
/// The journal in one SQLite file, for the control node of one machine. The store's clock is the given time provider.
/// Any thread may call; writes go through one thread and share syncs, reads through another.
/// </summary>
public sealed partial class SqliteJournal : IJournal
{
    private readonly TimeProvider _time;
    private readonly StoreThread _writer;
    private readonly StoreThread _reader;

    private SqliteJournal(SqliteJournalOptions options, TimeProvider time)
    {
        _time = time;
        _writer = new StoreThread("fabric-journal-write", writes: true, options, time);
        _reader = new StoreThread("fabric-journal-read", writes: false, options, time);
    }

    /// <summary>Transactions committed by the writer so far; fewer than appends when they shared syncs.</summary>
    internal long Commits => _writer.Commits;

    /// <exception cref="FabricException">
    /// store-failed: the file cannot be opened, is locked or damaged. incompatible: its schema is another version's. invalid-argument: an option.
    /// </exception>
    public static async Task<SqliteJournal> OpenAsync(SqliteJournalOptions options, TimeProvider time, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(time);
        if (!Path.IsPathFullyQualified(options.Path))
            throw JournalRules.Invalid($"'{Label.Shorten(options.Path)}' is not a path for a journal.", "Give an absolute path.");
        if (options.BusyTimeout < TimeSpan.FromSeconds(1) || options.BusyTimeout > TimeSpan.FromMinutes(1))
            throw JournalRules.Invalid($"A busy timeout of {options.BusyTimeout} is not possible.", "It is 1 s to 1 min.");
        ArgumentOutOfRangeException.ThrowIfLessThan(options.QueueCapacity, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.GroupLimit, 1);
        var journal = new SqliteJournal(options, time);
        try
        {
            await journal._writer.AskAsync(JournalSchema.Ensure, cancellation);
            return journal;
        }
        catch
        {
            await journal.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _writer.DisposeAsync();
        await _reader.DisposeAsync();
    }

    public Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        ArgumentOutOfRangeException.ThrowIfNegative(lastSequence);
        JournalRules.RequireStream(stream);
        JournalRules.RequireEvents(events);
        return _writer.AskAsync((connection, transaction) => Append(connection, transaction, lease, stream, lastSequence, events), cancellation);
    }

    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(afterSequence);
        JournalRules.RequireStream(stream);
        JournalRules.RequireMost(most);
        return _reader.AskAsync((connection, transaction) => Read(connection, transaction, stream, afterSequence, most), cancellation);
    }

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        JournalRules.RequireMost(most);
        return _reader.AskAsync((connection, transaction) => List(connection, transaction, shard, prefix, after, most), cancellation);
    }

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        ArgumentNullException.ThrowIfNull(state);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequence, 1);
        JournalRules.RequireStream(stream);
        if (state.Length > JournalRules.SnapshotBytes)
            throw JournalRules.Invalid($"A snapshot of {state.Length} bytes is too large.", $"At most {JournalRules.SnapshotBytes} bytes.");
        return _writer.AskAsync((connection, transaction) => SaveSnapshot(connection, transaction, lease, stream, sequence, state), cancellation);
    }

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation)
    {
        JournalRules.RequireStream(stream);
        return _reader.AskAsync((connection, transaction) => LoadSnapshot(connection, transaction, stream), cancellation);
    }

    private JournalRefusal Append(
        SqliteConnection connection, SqliteTransaction transaction, ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events)
    {
        if (!Holds(connection, transaction, lease))
            return JournalRefusal.Fenced;
        var row = FindStream(connection, transaction, stream);
        RequireShard(row, lease, stream);
        if ((row?.Last ?? 0) != lastSequence)
            return JournalRefusal.SequenceConflict;

        long id = row?.Id ?? connection.ExecuteScalar<long>(
            "INSERT INTO stream (name, shard, last) VALUES (@Value, @shard, 0) RETURNING id", new { stream.Value, shard = lease.Shard.Value }, transaction);
        long appended = Now();
        connection.Execute(
            "INSERT INTO event (stream, sequence, epoch, kind, version, payload, appended, holder) " +
            "VALUES (@id, @sequence, @epoch, @Kind, @Version, @Payload, @appended, @Holder)",
            events.Select((e, i) => new
            {
                id,
                sequence = lastSequence + 1 + i,
                epoch = lease.Epoch.Value,
                e.Kind,
                e.Version,
                e.Payload,
                appended,
                lease.Holder,
            }),
            transaction);
        connection.Execute("UPDATE stream SET last = @last WHERE id = @id", new { last = lastSequence + events.Count, id }, transaction);
        return JournalRefusal.None;
    }

    private static IReadOnlyList<JournalRecord> Read(
        SqliteConnection connection, SqliteTransaction transaction, StreamId stream, long afterSequence, int most)
    {
        if (FindStream(connection, transaction, stream) is not { } row)
            return [];
        var rows = connection.Query<EventRow>(
            "SELECT sequence, epoch, kind, version, payload, appended, holder FROM event " +
            "WHERE stream = @Id AND sequence > @afterSequence ORDER BY sequence LIMIT @most",
            new { row.Id, afterSequence, most },
            transaction);
        var records = new List<JournalRecord>();
        long expected = afterSequence;
        foreach (var e in rows)
        {
            if (e.Sequence != ++expected)
                throw Corrupt(stream, $"event {expected} is missing");
            if (JournalRules.Defect(e.Kind, e.Version, e.Payload) is { } defect)
                throw Corrupt(stream, $"event {e.Sequence} {defect}");
            records.Add(new JournalRecord(
                stream, e.Sequence, new Epoch(e.Epoch), e.Kind!, (int)e.Version, e.Payload!, FromStore(e.Appended), e.Holder ?? ""));
        }

        if (records.Count < most && expected < row.Last)
            throw Corrupt(stream, $"event {expected + 1} is missing; the last should be {row.Last}");
        return records;
    }

    private static IReadOnlyList<StreamId> List(
        SqliteConnection connection, SqliteTransaction transaction, ShardId shard, string prefix, StreamId? after, int most)
    {
        long afterId = 0;
        if (after is { } from)
        {
            afterId = FindStream(connection, transaction, from)?.Id
                ?? throw new FabricException(ErrorCodes.NotFound, $"There is no stream '{Label.Shorten(from.Value)}' to go on after.");
        }

        return connection.Query<string>(
            "SELECT name FROM stream WHERE shard = @Value AND id > @afterId AND substr(name, 1, length(@prefix)) = @prefix ORDER BY id LIMIT @most",
            new { shard.Value, afterId, prefix, most },
            transaction).Select(name => new StreamId(name)).ToList();
    }

    private static bool SaveSnapshot(
        SqliteConnection connection, SqliteTransaction transaction, ShardLease lease, StreamId stream, long sequence, byte[] state)
    {
        if (!Holds(connection, transaction, lease))
        {
            throw new FabricException(
                ErrorCodes.RefusedByEpoch, $"Shard {lease.Shard.Value} is no longer held by {lease.Holder} at epoch {lease.Epoch}; no snapshot was saved.");
        }

        var row = FindStream(connection, transaction, stream);
        RequireShard(row, lease, stream);
        if (row is null || sequence > row.Last)
            throw JournalRules.Invalid($"Stream '{stream}' has no event {sequence} to make a snapshot of.", "Append first.");
        connection.Execute(
            "INSERT INTO snapshot (stream, sequence, state) VALUES (@Id, @sequence, @state) " +
            "ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence, state = excluded.state WHERE excluded.sequence > snapshot.sequence",
            new { row.Id, sequence, state },
            transaction);
        return true;
    }

    private static (long Sequence, byte[] State)? LoadSnapshot(SqliteConnection connection, SqliteTransaction transaction, StreamId stream)
    {
        var row = connection.QuerySingleOrDefault<SnapshotRow>(
            "SELECT p.sequence, p.state, s.last FROM snapshot p JOIN stream s ON s.id = p.stream WHERE s.name = @Value", new { stream.Value }, transaction);
        if (row is null)
            return null;
        if (row.State is null || row.Sequence < 1 || row.Sequence > row.Last)
            throw Corrupt(stream, $"its snapshot is of event {row.Sequence}, its last event is {row.Last}");
        return (row.Sequence, row.State);
    }

    private static StreamRow? FindStream(SqliteConnection connection, SqliteTransaction transaction, StreamId stream) =>
        connection.QuerySingleOrDefault<StreamRow>("SELECT id, shard, last FROM stream WHERE name = @Value", new { stream.Value }, transaction);

    private static void RequireShard(StreamRow? row, ShardLease lease, StreamId stream)
    {
        if (row is not null && row.Shard != lease.Shard.Value)
            throw new FabricException(ErrorCodes.Conflict, $"Stream '{stream}' belongs to shard {row.Shard}, not to shard {lease.Shard.Value}.");
    }

    private static FabricException Corrupt(StreamId stream, string what) => new(
        ErrorCodes.Corrupt, $"Stream '{stream}' cannot be read: {what}.", "Nothing was changed. Restore the journal from a backup, or repair this stream by hand.");

    private long Now() => (_time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;

    private static DateTimeOffset FromStore(long microseconds) => DateTimeOffset.UnixEpoch.AddMicroseconds(microseconds);

    // Filled in by Dapper, column by name.
    private sealed record StreamRow
    {
        public long Id { get; init; }

        public long Shard { get; init; }

        public long Last { get; init; }
    }

    private sealed record EventRow
    {
        public long Sequence { get; init; }

        public long Epoch { get; init; }

        public string? Kind { get; init; }

        public long Version { get; init; }

        public byte[]? Payload { get; init; }

        public long Appended { get; init; }

        public string? Holder { get; init; }
    }

    private sealed record SnapshotRow
    {
        public long Sequence { get; init; }

        public byte[]? State { get; init; }

        public long Last { get; init; }
    }
}
