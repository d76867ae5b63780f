using Dapper;
using Fabric.Core;

namespace Fabric.Journal.Postgres;

/// <summary>
/// The journal in PostgreSQL, for the control nodes of a cluster. The store's clock is the server's (<c>clock_timestamp()</c>). Any thread may call.
/// Appends of this process share transactions, and so syncs; reads and leases have connections of their own and wait for none of them.
/// </summary>
public sealed partial class PostgresJournal : IJournal, IMembership
{
    private readonly PostgresServer _server;
    private readonly AppendQueue _appends;
    private readonly PostgresLane _writes;
    private readonly PostgresLane _reads;
    private readonly Random _random;
    private readonly Lock _randomGate = new();

    private PostgresJournal(PostgresJournalOptions options, TimeProvider time, Random random)
    {
        _server = new PostgresServer(options);
        _random = random;
        _appends = new AppendQueue(_server, options, time);
        _writes = new PostgresLane(_server, options, time);
        _reads = new PostgresLane(_server, options, time);
    }

    /// <summary>Groups of appends committed so far; fewer than appends when they shared syncs.</summary>
    internal long Commits => _appends.Commits;

    /// <summary>For tests: a setting as the connections of writes have it.</summary>
    internal Task<string?> SettingAsync(string name) =>
        _writes.AskAsync(connection => connection.ExecuteScalarAsync<string>("SELECT current_setting(@name)", new { name }), CancellationToken.None);

    /// <summary>Connects, and makes the tables in a new database; nodes that do so at once wait for each other.</summary>
    /// <param name="random">For terms and cluster ids; the journal's own from here on.</param>
    /// <exception cref="FabricException">store-failed: the server cannot be reached or refuses. incompatible: its settings or the tables' version. invalid-argument: an option.</exception>
    public static async Task<PostgresJournal> OpenAsync(PostgresJournalOptions options, TimeProvider time, Random random, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(time);
        ArgumentNullException.ThrowIfNull(random);
        var journal = new PostgresJournal(options, time, random);
        try
        {
            await journal._writes.AskAsync(connection => PostgresSchema.EnsureAsync(connection, journal.NewId()), cancellation);
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
        await _appends.DisposeAsync();
        await _writes.DisposeAsync();
        await _reads.DisposeAsync();
    }

    public Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        JournalRules.RequireAppend(lease, stream, lastSequence, events, request);
        return _appends.AskAsync(new PendingAppend(lease, stream, lastSequence, events, request), cancellation);
    }

    public Task SaveSnapshotAsync(ShardLease lease, StreamId stream, long sequence, byte[] state, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        JournalRules.RequireStream(stream);
        JournalRules.RequireSnapshot(sequence, state);
        return _writes.AskAsync(
            async connection =>
            {
                await using var transaction = await connection.BeginTransactionAsync();
                bool held = await connection.ExecuteScalarAsync<bool>(
                    "SELECT true FROM fabric.shard WHERE id = @Id AND epoch = @Epoch AND term = @Term AND holder = @Holder FOR SHARE", Key(lease), transaction);
                if (!held)
                    throw JournalRules.NoSnapshot(lease);
                var row = await connection.QuerySingleOrDefaultAsync<StreamRow>(
                    "SELECT id, shard, last FROM fabric.stream WHERE name = @Value", new { stream.Value }, transaction);
                if (row is not null)
                    JournalRules.RequireShard(stream, row.Shard, lease.Shard);
                if (row is null || sequence > row.Last)
                    throw JournalRules.Invalid($"Stream '{stream}' has no event {sequence} to make a snapshot of.", "Append first.");
                await connection.ExecuteAsync(
                    "INSERT INTO fabric.snapshot AS p (stream, sequence, state) VALUES (@Id, @sequence, @state) " +
                    "ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence, state = excluded.state WHERE excluded.sequence > p.sequence",
                    new { row.Id, sequence, state },
                    transaction);
                await transaction.CommitAsync();
                return true;
            },
            cancellation);
    }

    private Guid NewId()
    {
        lock (_randomGate)
            return RandomIds.Next(_random);
    }

    private static object Key(ShardLease lease) => new { Id = lease.Shard.Value, Epoch = lease.Epoch.Value, lease.Term, lease.Holder };

    private static DateTimeOffset FromStore(DateTime time) => new(DateTime.SpecifyKind(time, DateTimeKind.Utc));

    // Filled in by Dapper, column by name.
    private sealed record StreamRow
    {
        public long Id { get; init; }

        public int Shard { get; init; }

        public long Last { get; init; }
    }
}
