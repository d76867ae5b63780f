using System.Data;
using Dapper;
using Npgsql;

namespace Fabric.Journal.Postgres;

// The view, as rows. Whoever changes it locks the cluster's one row first; a beat takes no lock but its own member's row.

public sealed partial class PostgresJournal
{
    private const string View = """
        SELECT node, name, cluster_url AS ClusterUrl, api_url AS ApiUrl, state, since, beat FROM fabric.member ORDER BY number;
        SELECT node, by, at FROM fabric.suspicion ORDER BY at, node, by;
        """;

    public Task<ClusterView> ReadViewAsync(CancellationToken cancellation) => _reads.AskAsync(
        async connection =>
        {
            // One snapshot for all three statements.
            await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.RepeatableRead);
            var view = (await ReadViewAsync(connection, transaction, "SELECT id, version, clock_timestamp() AS now FROM fabric.cluster;")).View;
            await transaction.CommitAsync();
            return view;
        },
        cancellation);

    public Task<(ClusterView Now, bool Changed)> ChangeAsync(ClusterView seen, IReadOnlyList<ViewChange> changes, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(seen);
        ViewRules.RequireChanges(changes);
        return _writes.AskAsync(
            async connection =>
            {
                await using var transaction = await connection.BeginTransactionAsync();
                var (stored, now) = await ReadViewAsync(connection, transaction, "SELECT id, version, clock_timestamp() AS now FROM fabric.cluster FOR UPDATE;");
                if ((stored.Cluster, stored.Version) != (seen.Cluster, seen.Version))
                    return (stored, false);
                var next = ViewRules.Apply(stored, changes, now);
                await WriteAsync(connection, transaction, stored, next);
                await transaction.CommitAsync();
                return (next, true);
            },
            cancellation);
    }

    public Task<(Guid Cluster, long Version)> BeatAsync(Guid node, CancellationToken cancellation) => _writes.AskAsync(
        async connection =>
        {
            await using var answers = await connection.QueryMultipleAsync(
                "UPDATE fabric.member SET beat = clock_timestamp() WHERE node = @node AND state NOT IN (3, 4) RETURNING state; SELECT id, version FROM fabric.cluster;",
                new { node });
            await answers.ReadAsync<int>();
            var row = await answers.ReadSingleAsync<ClusterRow>();
            return (row.Id, row.Version);
        },
        cancellation);

    public Task<(ClusterView Now, bool Changed)> RenewClusterAsync(Guid expected, CancellationToken cancellation) => _writes.AskAsync(
        async connection =>
        {
            await using var transaction = await connection.BeginTransactionAsync();
            int changed = await connection.ExecuteAsync(
                "UPDATE fabric.cluster SET id = @id, version = version + 1 WHERE id = @expected", new { id = NewId(), expected }, transaction);
            if (changed > 0)
            {
                // In the order in which appends lock them.
                await connection.ExecuteAsync("SELECT FROM fabric.shard ORDER BY id FOR UPDATE", transaction: transaction);
                await connection.ExecuteAsync("UPDATE fabric.shard SET holder = NULL, expires = clock_timestamp()", transaction: transaction);
            }

            var (view, _) = await ReadViewAsync(connection, transaction, "SELECT id, version, clock_timestamp() AS now FROM fabric.cluster;");
            await transaction.CommitAsync();
            return (view, changed > 0);
        },
        cancellation);

    private static async Task<(ClusterView View, DateTimeOffset Now)> ReadViewAsync(NpgsqlConnection connection, NpgsqlTransaction transaction, string cluster)
    {
        await using var answers = await connection.QueryMultipleAsync(cluster + View, transaction: transaction);
        var row = await answers.ReadSingleAsync<ClusterRow>();
        var members = await answers.ReadAsync<MemberRow>();
        var suspicions = await answers.ReadAsync<SuspicionRow>();
        var view = new ClusterView(
            row.Id,
            row.Version,
            [.. members.Select(m => new Member(m.Node, m.Name, m.ClusterUrl, m.ApiUrl, (MemberState)m.State, FromStore(m.Since), FromStore(m.Beat)))],
            [.. suspicions.Select(s => new Suspicion(s.Node, s.By, FromStore(s.At)))]);
        return (view, FromStore(row.Now));
    }

    private static async Task WriteAsync(NpgsqlConnection connection, NpgsqlTransaction transaction, ClusterView before, ClusterView after)
    {
        await connection.ExecuteAsync("UPDATE fabric.cluster SET version = @Version", new { after.Version }, transaction);
        foreach (var member in after.Members.Except(before.Members))
        {
            await connection.ExecuteAsync(
                "INSERT INTO fabric.member (node, name, cluster_url, api_url, state, since, beat) VALUES (@Node, @Name, @ClusterUrl, @ApiUrl, @state, @since, @beat) " +
                "ON CONFLICT (node) DO UPDATE SET state = excluded.state, since = excluded.since",
                new { member.Node, member.Name, member.ClusterUrl, member.ApiUrl, state = (int)member.State, since = member.Since.UtcDateTime, beat = member.BeatAt.UtcDateTime },
                transaction);
        }

        var pruned = before.Members.Where(m => after.Find(m.Node) is null).Select(m => m.Node).ToArray();
        await connection.ExecuteAsync("DELETE FROM fabric.member WHERE node = ANY(@pruned)", new { pruned }, transaction);
        foreach (var gone in before.Suspicions.Except(after.Suspicions))
            await connection.ExecuteAsync("DELETE FROM fabric.suspicion WHERE node = @Node AND by = @By", new { gone.Node, gone.By }, transaction);
        foreach (var said in after.Suspicions.Except(before.Suspicions))
        {
            await connection.ExecuteAsync(
                "INSERT INTO fabric.suspicion (node, by, at) VALUES (@Node, @By, @at)", new { said.Node, said.By, at = said.At.UtcDateTime }, transaction);
        }
    }

    private sealed record ClusterRow
    {
        public Guid Id { get; init; }

        public long Version { get; init; }

        public DateTime Now { get; init; }
    }

    private sealed record MemberRow
    {
        public Guid Node { get; init; }

        public string Name { get; init; } = "";

        public string ClusterUrl { get; init; } = "";

        public string ApiUrl { get; init; } = "";

        public int State { get; init; }

        public DateTime Since { get; init; }

        public DateTime Beat { get; init; }
    }

    private sealed record SuspicionRow
    {
        public Guid Node { get; init; }

        public Guid By { get; init; }

        public DateTime At { get; init; }
    }
}
