using Fabric.Integration.Postgres;
using Npgsql;

namespace Fabric.Chaos.Cluster;

/// <summary>Three control nodes over a PostgreSQL of their own, and two hosts.</summary>
public sealed class TrioCluster() : ChaosCluster(controls: 3, postgres: true)
{
    /// <summary>How long each take-over took, over all rows.</summary>
    internal List<TimeSpan> TakeOvers { get; } = [];

    /// <summary>Why nothing can be run here, or null.</summary>
    internal static string? WhyNot => Unavailable ?? TemporaryPostgres.Unavailable();

    private protected override string? Lacking => WhyNot;

    /// <summary>Shard → name of the node that holds it and its epoch; asked of the database, not of a node.</summary>
    internal async Task<IReadOnlyDictionary<int, Holding>> HoldingsAsync(CancellationToken cancellation)
    {
        var holdings = new Dictionary<int, Holding>();
        await ReadAsync(
            "SELECT s.id, m.name, s.epoch FROM fabric.shard s LEFT JOIN fabric.member m ON m.node::text = s.holder AND m.state < 3 WHERE s.expires > clock_timestamp() OR s.holder IS NULL",
            row => holdings[row.GetInt32(0)] = new Holding(row.IsDBNull(1) ? null : row.GetString(1), row.GetInt64(2)),
            cancellation);
        return holdings;
    }

    internal async Task<Guid> ClusterIdAsync(CancellationToken cancellation)
    {
        var id = Guid.Empty;
        await ReadAsync("SELECT id FROM fabric.cluster", row => id = row.GetGuid(0), cancellation);
        return id;
    }

    internal override async Task<string?> UnsettledAsync(CancellationToken cancellation)
    {
        if (await base.UnsettledAsync(cancellation) is { } away)
            return away;
        var now = await HoldingsAsync(cancellation);
        var shards = await AskAsync(static (client, late) => client.ShardsAsync(late), cancellation);
        var nodes = await AskAsync(static (client, late) => client.NodesAsync(late), cancellation);
        return nodes.Count(static n => n.State == "up") < Local.Controls.Count ? "Not all nodes are up."
            : shards.FirstOrDefault(s => now.GetValueOrDefault(s.Shard)?.Node != s.Node) is { } other ? $"Shard {other.Shard} is held by {now.GetValueOrDefault(other.Shard)?.Node ?? "nobody"}." : null;
    }

    private async Task ReadAsync(string sql, Action<NpgsqlDataReader> row, CancellationToken cancellation)
    {
        await using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(Database) { Pooling = false }.ConnectionString);
        await connection.OpenAsync(cancellation);
        await using var command = new NpgsqlCommand(sql, connection);
        await using var reader = await command.ExecuteReaderAsync(cancellation);
        while (await reader.ReadAsync(cancellation))
            row(reader);
    }
}

/// <summary><paramref name="Node"/>: null: nobody that is alive in the view.</summary>
internal sealed record Holding(string? Node, long Epoch);
