using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

/// <summary>
/// The journal in one SQLite file, for the control node of one machine. The store's clock is the given time provider.
/// Any thread may call; writes go through one thread and share syncs, reads through another.
/// </summary>
public sealed partial class SqliteJournal : IJournal, IMembership
{
    private readonly TimeProvider _time;
    private readonly Random _random; // the writer thread's own
    private readonly StoreThread _writer;
    private readonly StoreThread _reader;

    private SqliteJournal(SqliteJournalOptions options, TimeProvider time, Random random)
    {
        _time = time;
        _random = random;
        _writer = new StoreThread("fabric-journal-write", writes: true, options, time);
        _reader = new StoreThread("fabric-journal-read", writes: false, options, time);
    }

    /// <summary>Transactions committed by the writer so far; fewer than appends when they shared syncs.</summary>
    internal long Commits => _writer.Commits;

    /// <param name="random">For terms and cluster ids; the journal's own from here on.</param>
    /// <exception cref="FabricException">
    /// store-failed: the file cannot be opened, is locked or damaged. incompatible: its schema is another version's. invalid-argument: an option.
    /// </exception>
    public static async Task<SqliteJournal> OpenAsync(SqliteJournalOptions options, TimeProvider time, Random random, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(time);
        ArgumentNullException.ThrowIfNull(random);
        if (!Path.IsPathFullyQualified(options.Path))
            throw JournalRules.Invalid($"'{Label.Shorten(options.Path)}' is not a path for a journal.", "Give an absolute path.");
        if (options.BusyTimeout < TimeSpan.FromSeconds(1) || options.BusyTimeout > TimeSpan.FromMinutes(1))
            throw JournalRules.Invalid($"A busy timeout of {options.BusyTimeout} is not possible.", "It is 1 s to 1 min.");
        ArgumentOutOfRangeException.ThrowIfLessThan(options.QueueCapacity, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.GroupLimit, 1);
        var journal = new SqliteJournal(options, time, random);
        try
        {
            await journal._writer.AskAsync((connection, transaction) => JournalSchema.Ensure(connection, transaction, Text(journal.NewId())), cancellation);
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
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        JournalRules.RequireAppend(lease, stream, lastSequence, events, request);
        return _writer.AskAsync((connection, transaction) => Append(connection, transaction, lease, stream, lastSequence, events, request), cancellation);
    }

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        JournalRules.RequireStream(stream);
        JournalRules.RequireSnapshot(sequence, state);
        return _writer.AskAsync((connection, transaction) => SaveSnapshot(connection, transaction, lease, stream, sequence, state), cancellation);
    }

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation)
    {
        JournalRules.RequireStream(stream);
        return _reader.AskAsync((connection, transaction) => LoadSnapshot(connection, transaction, stream), cancellation);
    }

    private JournalRefusal Append(
        SqliteConnection connection, SqliteTransaction transaction, ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request)
    {
        var shard = FindShard(connection, transaction, lease.Shard);
        if (!Holds(shard, lease))
            return JournalRefusal.Fenced;
        if (request is { } asked && FindRequest(connection, transaction, asked) is not null)
            return JournalRefusal.Repeated;
        var row = FindStream(connection, transaction, stream);
        RequireShard(row, lease, stream);
        if ((row?.Last ?? 0) != lastSequence)
            return JournalRefusal.SequenceConflict;

        long id = row?.Id ?? connection.ExecuteScalar<long>(
            "INSERT INTO stream (name, shard, last) VALUES (@Value, @shard, 0) RETURNING id", new { stream.Value, shard = lease.Shard.Value }, transaction);
        long appended = Now();
        connection.Execute(
            "INSERT INTO event (stream, sequence, shard, position, epoch, kind, version, payload, appended, holder) " +
            "VALUES (@id, @sequence, @shard, @position, @epoch, @Kind, @Version, @Payload, @appended, @Holder)",
            events.Select((e, i) => new
            {
                id,
                sequence = lastSequence + 1 + i,
                shard = lease.Shard.Value,
                position = shard.Position + 1 + i,
                epoch = lease.Epoch.Value,
                e.Kind,
                e.Version,
                e.Payload,
                appended,
                lease.Holder,
            }),
            transaction);
        long last = lastSequence + events.Count;
        connection.Execute("UPDATE stream SET last = @last WHERE id = @id", new { last, id }, transaction);
        connection.Execute(
            "UPDATE shard SET position = @position WHERE id = @shard", new { position = shard.Position + events.Count, shard = lease.Shard.Value }, transaction);
        if (request is { } accepted)
            connection.Execute("INSERT INTO request (id, stream, sequence) VALUES (@request, @id, @last)", new { request = Text(accepted), id, last }, transaction);
        return JournalRefusal.None;
    }

    private static bool SaveSnapshot(
        SqliteConnection connection, SqliteTransaction transaction, ShardLease lease, StreamId stream, long sequence, byte[] state)
    {
        if (!Holds(connection, transaction, lease))
            throw JournalRules.NoSnapshot(lease);
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
        if (row is not null)
            JournalRules.RequireShard(stream, row.Shard, lease.Shard);
    }

    private static FabricException Corrupt(StreamId stream, string what) => JournalRules.Corrupt(stream, what);

    private Guid NewId() => RandomIds.Next(_random);

    private long Now() => ToStore(_time.GetUtcNow());

    private static long ToStore(DateTimeOffset time) => (time - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;

    private static DateTimeOffset FromStore(long microseconds) => DateTimeOffset.UnixEpoch.AddMicroseconds(microseconds);

    // Filled in by Dapper, column by name.
    private sealed record StreamRow
    {
        public long Id { get; init; }

        public long Shard { get; init; }

        public long Last { get; init; }
    }

    private sealed record SnapshotRow
    {
        public long Sequence { get; init; }

        public byte[]? State { get; init; }

        public long Last { get; init; }
    }
}
