using Dapper;
using Fabric.Core;

namespace Fabric.Journal.Postgres;

// Reads take one round trip and no locks. What tells how much there should be is read first: what is appended meanwhile can only be more.

public sealed partial class PostgresJournal
{
    public Task<IReadOnlyList<JournalRecord>> ReadAsync(StreamId stream, long afterSequence, int most, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(afterSequence);
        JournalRules.RequireStream(stream);
        JournalRules.RequireMost(most);
        return ReadWholeAsync(
            "SELECT last FROM fabric.stream WHERE name = @Value", "s.name = @Value AND e.sequence > @afterSequence ORDER BY e.sequence",
            new { stream.Value, afterSequence, most }, static e => e.Sequence, afterSequence, most, what => JournalRules.Corrupt(stream, $"event {what}"), cancellation);
    }

    public Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(afterPosition);
        JournalRules.RequireMost(most);
        return ReadWholeAsync(
            "SELECT position FROM fabric.shard WHERE id = @Value", "e.shard = @Value AND e.position > @afterPosition ORDER BY e.position",
            new { shard.Value, afterPosition, most }, static e => e.Position, afterPosition, most, what => JournalRules.Corrupt(shard, $"the event at position {what}"), cancellation);
    }

    public Task<IReadOnlyList<ShardStanding>> ListShardsAsync(CancellationToken cancellation) => _reads.AskAsync<IReadOnlyList<ShardStanding>>(
        async connection =>
        {
            var rows = await connection.QueryAsync<StandingRow>(
                "SELECT id, holder, epoch, holder IS NOT NULL AND expires > clock_timestamp() AS leased, position FROM fabric.shard ORDER BY id");
            return [.. rows.Select(static row => new ShardStanding(new ShardId(row.Id), row.Holder, new Epoch(row.Epoch), row.Leased, row.Position))];
        },
        cancellation);

    public Task<(StreamId Stream, long Sequence)?> FindRequestAsync(Guid request, CancellationToken cancellation)
    {
        JournalRules.RequireRequest(request);
        return _reads.AskAsync<(StreamId, long)?>(
            async connection =>
            {
                var row = await connection.QuerySingleOrDefaultAsync<RequestRow>(
                    "SELECT s.name, r.sequence FROM fabric.request r JOIN fabric.stream s ON s.id = r.stream WHERE r.id = @request", new { request });
                return row is null ? null : (new StreamId(row.Name), row.Sequence);
            },
            cancellation);
    }

    public Task<IReadOnlyList<StreamId>> ListStreamsAsync(ShardId shard, string prefix, StreamId? after, int most, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        JournalRules.RequireMost(most);
        return _reads.AskAsync<IReadOnlyList<StreamId>>(
            async connection =>
            {
                long afterId = 0;
                if (after is { } from)
                {
                    afterId = await connection.ExecuteScalarAsync<long?>("SELECT id FROM fabric.stream WHERE name = @Value", new { from.Value })
                        ?? throw new FabricException(ErrorCodes.NotFound, $"There is no stream '{Label.Shorten(from.Value)}' to go on after.");
                }

                var names = await connection.QueryAsync<string>(
                    "SELECT name FROM fabric.stream WHERE shard = @Value AND id > @afterId AND starts_with(name, @prefix) ORDER BY id LIMIT @most",
                    new { shard.Value, afterId, prefix, most });
                return [.. names.Select(name => new StreamId(name))];
            },
            cancellation);
    }

    public Task<(long Sequence, byte[] State)?> LoadSnapshotAsync(StreamId stream, CancellationToken cancellation)
    {
        JournalRules.RequireStream(stream);
        return _reads.AskAsync<(long, byte[])?>(
            async connection =>
            {
                var row = await connection.QuerySingleOrDefaultAsync<SnapshotRow>(
                    "SELECT p.sequence, p.state, s.last FROM fabric.snapshot p JOIN fabric.stream s ON s.id = p.stream WHERE s.name = @Value", new { stream.Value });
                if (row is null)
                    return null;
                return row.Sequence >= 1 && row.Sequence <= row.Last
                    ? (row.Sequence, row.State)
                    : throw JournalRules.Corrupt(stream, $"its snapshot is of event {row.Sequence}, its last event is {row.Last}");
            },
            cancellation);
    }

    /// <param name="lastOf">The statement that gives the highest number there is; none: 0.</param>
    /// <param name="which">The condition and the order of the records.</param>
    /// <param name="values">Of both; with <c>most</c>.</param>
    /// <param name="number">What counts the records without a gap.</param>
    private Task<IReadOnlyList<JournalRecord>> ReadWholeAsync(
        string lastOf, string which, object values, Func<EventRow, long> number, long after, int most, Func<string, FabricException> corrupt, CancellationToken cancellation) => _reads.AskAsync(
        async connection =>
        {
            await using var answers = await connection.QueryMultipleAsync(
                $"""
                {lastOf};
                SELECT s.name, e.sequence, e.position, e.epoch, e.kind, e.version, e.payload, e.appended, e.holder FROM fabric.event e
                    JOIN fabric.stream s ON s.id = e.stream WHERE {which} LIMIT @most;
                """,
                values);
            long last = await answers.ReadSingleOrDefaultAsync<long>();
            return Whole(await answers.ReadAsync<EventRow>(), number, after, last, most, corrupt);
        },
        cancellation);

    private static IReadOnlyList<JournalRecord> Whole(
        IEnumerable<EventRow> rows, Func<EventRow, long> number, long after, long last, int most, Func<string, FabricException> corrupt)
    {
        var records = new List<JournalRecord>();
        long expected = after;
        foreach (var e in rows)
        {
            if (number(e) != ++expected)
                throw corrupt($"{expected} is missing");
            var stream = new StreamId(e.Name);
            if (JournalRules.Defect(e.Kind, e.Version, e.Payload) is { } defect)
                throw JournalRules.Corrupt(stream, $"event {e.Sequence} {defect}");
            records.Add(new JournalRecord(stream, e.Sequence, e.Position, new Epoch(e.Epoch), e.Kind, e.Version, e.Payload, FromStore(e.Appended), e.Holder));
        }

        if (records.Count < most && expected < last)
            throw corrupt($"{expected + 1} is missing; the last should be {last}");
        return records;
    }

    private sealed record StandingRow
    {
        public int Id { get; init; }

        public string? Holder { get; init; }

        public long Epoch { get; init; }

        public bool Leased { get; init; }

        public long Position { get; init; }
    }

    private sealed record EventRow
    {
        public string Name { get; init; } = "";

        public long Sequence { get; init; }

        public long Position { get; init; }

        public long Epoch { get; init; }

        public string Kind { get; init; } = "";

        public int Version { get; init; }

        public byte[] Payload { get; init; } = [];

        public DateTime Appended { get; init; }

        public string Holder { get; init; } = "";
    }

    private sealed record SnapshotRow
    {
        public long Sequence { get; init; }

        public byte[] State { get; init; } = [];

        public long Last { get; init; }
    }

    private sealed record RequestRow
    {
        public string Name { get; init; } = "";

        public long Sequence { get; init; }
    }
}
