using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

/// <summary>Appends that share one transaction: what is read for them, what each may do, what they write together. Order and failure: see <see cref="AppendQueue"/>.</summary>
internal sealed class AppendGroup(IReadOnlyList<PendingAppend> appends)
{
    private readonly Dictionary<int, ShardRow> _shards = [];
    private readonly Dictionary<string, StreamRow> _streams = new(StringComparer.Ordinal);
    private readonly HashSet<Guid> _requests = [];
    private readonly List<(PendingAppend Append, long Position)> _accepted = [];
    private readonly (JournalRefusal Refusal, FabricException? Error)[] _outcomes = new (JournalRefusal, FabricException?)[appends.Count];

    internal async Task ReadAsync(NpgsqlConnection connection)
    {
        _shards.Clear();
        _streams.Clear();
        _requests.Clear();
        await using var batch = new NpgsqlBatch(connection)
        {
            BatchCommands =
            {
                new NpgsqlBatchCommand("BEGIN"),
                Command(
                    "SELECT id, epoch, term, holder, position FROM fabric.shard WHERE id = ANY($1) ORDER BY id FOR UPDATE",
                    appends.Select(a => a.Lease.Shard.Value).Distinct().ToArray()),
                // Each of these sees what was committed before the locks were had.
                Command("SELECT name, shard, last FROM fabric.stream WHERE name = ANY($1)", appends.Select(a => a.Stream.Value).Distinct(StringComparer.Ordinal).ToArray()),
                Command("SELECT id FROM fabric.request WHERE id = ANY($1)", appends.Where(a => a.Request is not null).Select(a => a.Request!.Value).Distinct().ToArray()),
            },
        };
        await using var reader = await batch.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            string? holder = await reader.IsDBNullAsync(3) ? null : reader.GetString(3);
            _shards.Add(reader.GetInt32(0), new ShardRow(reader.GetInt64(1), reader.GetGuid(2), holder) { Position = reader.GetInt64(4) });
        }

        await reader.NextResultAsync();
        while (await reader.ReadAsync())
            _streams.Add(reader.GetString(0), new StreamRow(reader.GetInt32(1), IsNew: false) { Last = reader.GetInt64(2) });
        await reader.NextResultAsync();
        while (await reader.ReadAsync())
            _requests.Add(reader.GetGuid(0));
    }

    internal void Judge()
    {
        _accepted.Clear();
        for (int i = 0; i < appends.Count; i++)
        {
            try
            {
                _outcomes[i] = (Judge(appends[i]), null);
            }
            catch (FabricException refusal)
            {
                _outcomes[i] = (default, refusal);
            }
        }
    }

    internal async Task WriteAsync(NpgsqlConnection connection)
    {
        await using var batch = new NpgsqlBatch(connection);
        if (_accepted.Count == 0)
        {
            batch.BatchCommands.Add(new NpgsqlBatchCommand("ROLLBACK"));
            await batch.ExecuteNonQueryAsync();
            return;
        }

        AddRows(batch);
        AddEvents(batch);
        var asked = _accepted.Where(a => a.Append.Request is not null).Select(a => a.Append).ToArray();
        if (asked.Length > 0)
        {
            batch.BatchCommands.Add(Command(
                "INSERT INTO fabric.request (id, stream, sequence) SELECT r.id, s.id, r.sequence " +
                "FROM unnest($1, $2, $3) AS r (id, name, sequence) JOIN fabric.stream s ON s.name = r.name ORDER BY r.id",
                asked.Select(a => a.Request!.Value).ToArray(),
                asked.Select(a => a.Stream.Value).ToArray(),
                asked.Select(a => a.LastSequence + a.Events.Count).ToArray()));
        }

        batch.BatchCommands.Add(new NpgsqlBatchCommand("COMMIT"));
        await batch.ExecuteNonQueryAsync();
    }

    internal void Complete()
    {
        for (int i = 0; i < appends.Count; i++)
            appends[i].Complete(_outcomes[i].Refusal, _outcomes[i].Error);
    }

    private JournalRefusal Judge(PendingAppend append)
    {
        var lease = append.Lease;
        if (!_shards.TryGetValue(lease.Shard.Value, out var shard) || (shard.Epoch, shard.Term, shard.Holder) != (lease.Epoch.Value, lease.Term, lease.Holder))
            return JournalRefusal.Fenced;
        if (append.Request is { } request && _requests.Contains(request))
            return JournalRefusal.Repeated;
        if (!_streams.TryGetValue(append.Stream.Value, out var stream))
            stream = new StreamRow(lease.Shard.Value, IsNew: true);
        JournalRules.RequireShard(append.Stream, stream.Shard, lease.Shard);
        if (stream.Last != append.LastSequence)
            return JournalRefusal.SequenceConflict;

        _streams[append.Stream.Value] = stream;
        _accepted.Add((append, shard.Position));
        stream.Last += append.Events.Count;
        shard.Position += append.Events.Count;
        if (append.Request is { } accepted)
            _requests.Add(accepted);
        return JournalRefusal.None;
    }

    private void AddRows(NpgsqlBatch batch)
    {
        var touched = _accepted.Select(a => a.Append.Stream.Value).Distinct(StringComparer.Ordinal).Select(name => (Name: name, Row: _streams[name])).ToArray();
        var created = touched.Where(s => s.Row.IsNew).ToArray();
        if (created.Length > 0)
        {
            batch.BatchCommands.Add(Command(
                "INSERT INTO fabric.stream (name, shard, last) SELECT name, shard, last FROM unnest($1, $2, $3) WITH ORDINALITY AS v (name, shard, last, n) ORDER BY n",
                created.Select(s => s.Name).ToArray(),
                created.Select(s => s.Row.Shard).ToArray(),
                created.Select(s => s.Row.Last).ToArray()));
        }

        var grown = touched.Where(s => !s.Row.IsNew).ToArray();
        if (grown.Length > 0)
        {
            batch.BatchCommands.Add(Command(
                "UPDATE fabric.stream s SET last = v.last FROM unnest($1, $2) AS v (name, last) WHERE s.name = v.name",
                grown.Select(s => s.Name).ToArray(),
                grown.Select(s => s.Row.Last).ToArray()));
        }

        var shards = _accepted.Select(a => a.Append.Lease.Shard.Value).Distinct().ToArray();
        batch.BatchCommands.Add(Command(
            "UPDATE fabric.shard s SET position = v.position FROM unnest($1, $2) AS v (id, position) WHERE s.id = v.id",
            shards,
            shards.Select(id => _shards[id].Position).ToArray()));
    }

    private void AddEvents(NpgsqlBatch batch)
    {
        var rows = _accepted.SelectMany(a => a.Append.Events.Select((e, i) => (a.Append, Event: e, Number: i + 1, a.Position))).ToArray();
        batch.BatchCommands.Add(Command(
            "INSERT INTO fabric.event (stream, sequence, shard, position, epoch, kind, version, payload, appended, holder) " +
            "SELECT s.id, e.sequence, e.shard, e.position, e.epoch, e.kind, e.version, e.payload, (SELECT clock_timestamp()), e.holder " +
            "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS e (name, sequence, shard, position, epoch, kind, version, payload, holder) " +
            "JOIN fabric.stream s ON s.name = e.name",
            Array.ConvertAll(rows, r => r.Append.Stream.Value),
            Array.ConvertAll(rows, r => r.Append.LastSequence + r.Number),
            Array.ConvertAll(rows, r => r.Append.Lease.Shard.Value),
            Array.ConvertAll(rows, r => r.Position + r.Number),
            Array.ConvertAll(rows, r => r.Append.Lease.Epoch.Value),
            Array.ConvertAll(rows, r => r.Event.Kind),
            Array.ConvertAll(rows, r => r.Event.Version),
            Array.ConvertAll(rows, r => r.Event.Payload),
            Array.ConvertAll(rows, r => r.Append.Lease.Holder)));
    }

    private static NpgsqlBatchCommand Command(string text, params Array[] columns)
    {
        var command = new NpgsqlBatchCommand(text);
        foreach (var column in columns)
            command.Parameters.Add(new NpgsqlParameter { Value = column });
        return command;
    }

    private sealed record ShardRow(long Epoch, Guid Term, string? Holder)
    {
        public long Position { get; set; }
    }

    private sealed record StreamRow(int Shard, bool IsNew)
    {
        public long Last { get; set; }
    }
}
