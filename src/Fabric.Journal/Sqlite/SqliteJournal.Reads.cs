using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

public sealed partial class SqliteJournal
{
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

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(afterPosition);
        JournalRules.RequireMost(most);
        return _reader.AskAsync((connection, transaction) => ReadShard(connection, transaction, shard, afterPosition, most), cancellation);
    }

    public Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation) => _reader.AskAsync(ListShards, cancellation);

    private IReadOnlyList<ShardStanding> ListShards(SqliteConnection connection, SqliteTransaction transaction)
    {
        long now = Now();
        return [.. connection.Query<ShardRow>("SELECT id, epoch, term, holder, expires, position FROM shard ORDER BY id", transaction: transaction)
            .Select(row => new ShardStanding(new ShardId(row.Id), row.Holder, new Epoch(row.Epoch), row.Holder is not null && row.Expires > now, row.Position))];
    }

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation)
    {
        JournalRules.RequireRequest(request);
        return _reader.AskAsync((connection, transaction) => FindRequest(connection, transaction, request), cancellation);
    }

    private static (StreamId Stream, long Sequence)? FindRequest(SqliteConnection connection, SqliteTransaction transaction, Guid request)
    {
        var row = connection.QuerySingleOrDefault<RequestRow>(
            "SELECT s.name, r.sequence FROM request r JOIN stream s ON s.id = r.stream WHERE r.id = @id", new { id = Text(request) }, transaction);
        return row is null ? null : (new StreamId(row.Name), row.Sequence);
    }

    private static IReadOnlyList<JournalRecord> Read(
        SqliteConnection connection, SqliteTransaction transaction, StreamId stream, long afterSequence, int most)
    {
        if (FindStream(connection, transaction, stream) is not { } row)
            return [];
        var rows = connection.Query<EventRow>(
            "SELECT sequence, position, epoch, kind, version, payload, appended, holder FROM event " +
            "WHERE stream = @Id AND sequence > @afterSequence ORDER BY sequence LIMIT @most",
            new { row.Id, afterSequence, most },
            transaction);
        var records = new List<JournalRecord>();
        long expected = afterSequence;
        foreach (var e in rows)
        {
            if (e.Sequence != ++expected)
                throw Corrupt(stream, $"event {expected} is missing");
            records.Add(Record(stream, e));
        }

        if (records.Count < most && expected < row.Last)
            throw Corrupt(stream, $"event {expected + 1} is missing; the last should be {row.Last}");
        return records;
    }

    private static IReadOnlyList<JournalRecord> ReadShard(
        SqliteConnection connection, SqliteTransaction transaction, ShardId shard, long afterPosition, int most)
    {
        if (FindShard(connection, transaction, shard) is not { } row)
            return [];
        var rows = connection.Query<EventRow>(
            "SELECT s.name, e.sequence, e.position, e.epoch, e.kind, e.version, e.payload, e.appended, e.holder FROM event e JOIN stream s ON s.id = e.stream " +
            "WHERE e.shard = @Value AND e.position > @afterPosition ORDER BY e.position LIMIT @most",
            new { shard.Value, afterPosition, most },
            transaction);
        var records = new List<JournalRecord>();
        long expected = afterPosition;
        foreach (var e in rows)
        {
            if (e.Position != ++expected)
                throw JournalRules.Corrupt(shard, $"the event at position {expected} is missing");
            records.Add(Record(new StreamId(e.Name ?? ""), e));
        }

        if (records.Count < most && expected < row.Position)
            throw JournalRules.Corrupt(shard, $"the event at position {expected + 1} is missing; the last should be {row.Position}");
        return records;
    }

    private static JournalRecord Record(StreamId stream, EventRow e) => JournalRules.Defect(e.Kind, e.Version, e.Payload) is { } defect
        ? throw Corrupt(stream, $"event {e.Sequence} {defect}")
        : new JournalRecord(stream, e.Sequence, e.Position, new Epoch(e.Epoch), e.Kind!, (int)e.Version, e.Payload!, FromStore(e.Appended), e.Holder ?? "");

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

    private sealed record EventRow
    {
        public string? Name { get; init; }

        public long Sequence { get; init; }

        public long Position { get; init; }

        public long Epoch { get; init; }

        public string? Kind { get; init; }

        public long Version { get; init; }

        public byte[]? Payload { get; init; }

        public long Appended { get; init; }

        public string? Holder { get; init; }
    }

    private sealed record RequestRow
    {
        public string Name { get; init; } = "";

        public long Sequence { get; init; }
    }
}
