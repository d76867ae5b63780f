using System.Collections.Immutable;
using Dapper;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

// The view, as rows. Changes go through the writer's thread, one after another, so comparing and writing is one step.

public sealed partial class SqliteJournal
{
    public Task<ClusterView> ReadViewAsync(CancellationToken cancellation) => _reader.AskAsync(ReadView, cancellation);

    public Task<(ClusterView Now, bool Changed)> ChangeAsync(ClusterView seen, IReadOnlyList<ViewChange> changes, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(seen);
        ViewRules.RequireChanges(changes);
        return _writer.AskAsync(
            (connection, transaction) =>
            {
                var stored = ReadView(connection, transaction);
                if ((stored.Cluster, stored.Version) != (seen.Cluster, seen.Version))
                    return (stored, false);
                var next = ViewRules.Apply(stored, changes, FromStore(Now()));
                Write(connection, transaction, stored, next);
                return (next, true);
            },
            cancellation);
    }

    public Task<(Guid Cluster, long Version)> BeatAsync(Guid node, CancellationToken cancellation) => _writer.AskAsync(
        (connection, transaction) =>
        {
            connection.Execute(
                "UPDATE member SET beat = @now WHERE node = @node AND state NOT IN @Final", new { now = Now(), node = Text(node), Final }, transaction);
            var row = connection.QuerySingle<ClusterRow>("SELECT id, version FROM cluster", transaction: transaction);
            return (Guid.Parse(row.Id), row.Version);
        },
        cancellation);

    public Task<(ClusterView Now, bool Changed)> RenewClusterAsync(Guid expected, CancellationToken cancellation) => _writer.AskAsync(
        (connection, transaction) =>
        {
            int changed = connection.Execute(
                "UPDATE cluster SET id = @id, version = version + 1 WHERE id = @expected", new { id = Text(NewId()), expected = Text(expected) }, transaction);
            if (changed > 0)
                connection.Execute("UPDATE shard SET holder = NULL, expires = 0", transaction: transaction);
            return (ReadView(connection, transaction), changed > 0);
        },
        cancellation);

    private static readonly ImmutableArray<int> Final = [(int)MemberState.Left, (int)MemberState.Dead];

    private static bool IsFinalMember(SqliteConnection connection, SqliteTransaction transaction, string holder) => connection.ExecuteScalar<bool>(
        "SELECT EXISTS (SELECT 1 FROM member WHERE node = @holder AND state IN @Final)", new { holder, Final }, transaction);

    private static ClusterView ReadView(SqliteConnection connection, SqliteTransaction transaction)
    {
        var cluster = connection.QuerySingle<ClusterRow>("SELECT id, version FROM cluster", transaction: transaction);
        var members = connection.Query<MemberRow>(
            "SELECT node, name, cluster_url AS ClusterUrl, api_url AS ApiUrl, state, since, beat FROM member ORDER BY number", transaction: transaction);
        var suspicions = connection.Query<SuspicionRow>("SELECT node, by, at FROM suspicion ORDER BY at, node, by", transaction: transaction);
        return new ClusterView(
            Guid.Parse(cluster.Id),
            cluster.Version,
            [.. members.Select(m => new Member(Guid.Parse(m.Node), m.Name, m.ClusterUrl, m.ApiUrl, (MemberState)m.State, FromStore(m.Since), FromStore(m.Beat)))],
            [.. suspicions.Select(s => new Suspicion(Guid.Parse(s.Node), Guid.Parse(s.By), FromStore(s.At)))]);
    }

    private static void Write(SqliteConnection connection, SqliteTransaction transaction, ClusterView before, ClusterView after)
    {
        connection.Execute("UPDATE cluster SET version = @Version", new { after.Version }, transaction);
        foreach (var member in after.Members.Except(before.Members))
        {
            connection.Execute(
                "INSERT INTO member (node, name, cluster_url, api_url, state, since, beat) VALUES (@node, @Name, @ClusterUrl, @ApiUrl, @state, @since, @beat) " +
                "ON CONFLICT (node) DO UPDATE SET state = excluded.state, since = excluded.since",
                new { node = Text(member.Node), member.Name, member.ClusterUrl, member.ApiUrl, state = (int)member.State, since = ToStore(member.Since), beat = ToStore(member.BeatAt) },
                transaction);
        }

        foreach (var member in before.Members.Where(m => after.Find(m.Node) is null))
            connection.Execute("DELETE FROM member WHERE node = @node", new { node = Text(member.Node) }, transaction);
        foreach (var gone in before.Suspicions.Except(after.Suspicions))
            connection.Execute("DELETE FROM suspicion WHERE node = @node AND by = @by", new { node = Text(gone.Node), by = Text(gone.By) }, transaction);
        foreach (var said in after.Suspicions.Except(before.Suspicions))
        {
            connection.Execute(
                "INSERT INTO suspicion (node, by, at) VALUES (@node, @by, @at)", new { node = Text(said.Node), by = Text(said.By), at = ToStore(said.At) }, transaction);
        }
    }

    private static string Text(Guid id) => id.ToString("D");

    private sealed record ClusterRow
    {
        public string Id { get; init; } = "";

        public long Version { get; init; }
    }

    private sealed record MemberRow
    {
        public string Node { get; init; } = "";

        public string Name { get; init; } = "";

        public string ClusterUrl { get; init; } = "";

        public string ApiUrl { get; init; } = "";

        public long State { get; init; }

        public long Since { get; init; }

        public long Beat { get; init; }
    }

    private sealed record SuspicionRow
    {
        public string Node { get; init; } = "";

        public string By { get; init; } = "";

        public long At { get; init; }
    }
}
