using System.Diagnostics.CodeAnalysis;
using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

// Leases. A shard row says who may append. Its epoch is what protects the streams; its expiry only says when somebody else may try.
// So an owner that is late but was not replaced may still append and renew; one that was replaced never can.

public sealed partial class SqliteJournal
{
    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(
        ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation)
    {
        JournalRules.RequireHolder(holder, duration);
        JournalRules.RequireFloor(floor);
        return _writer.AskAsync<(ShardLease?, JournalRefusal)>(
            (connection, transaction) =>
            {
                if (IsFinalMember(connection, transaction, holder))
                    return (null, JournalRefusal.NoMember);
                long now = Now();
                var row = FindShard(connection, transaction, shard);
                if (row is { Holder: not null } && row.Holder != holder && row.Expires > now && !IsFinalMember(connection, transaction, row.Holder))
                    return (null, JournalRefusal.HeldByAnother);
                var stored = new Epoch(row?.Epoch ?? 0);
                var lease = new ShardLease(shard, holder, (stored > floor ? stored : floor).Next, NewId(), duration);
                connection.Execute(
                    "INSERT INTO shard (id, epoch, term, holder, expires) VALUES (@Id, @Epoch, @term, @holder, @expires) " +
                    "ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, term = excluded.term, holder = excluded.holder, expires = excluded.expires",
                    new { Id = shard.Value, Epoch = lease.Epoch.Value, term = Text(lease.Term), holder, expires = now + Microseconds(duration) },
                    transaction);
                return (lease, JournalRefusal.None);
            },
            cancellation);
    }

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        JournalRules.RequireHolder(lease.Holder, duration);
        return _writer.AskAsync<(ShardLease?, JournalRefusal)>(
            (connection, transaction) =>
            {
                if (!Holds(connection, transaction, lease))
                    return (null, JournalRefusal.Fenced);
                connection.Execute(
                    "UPDATE shard SET expires = @expires WHERE id = @Value", new { expires = Now() + Microseconds(duration), lease.Shard.Value }, transaction);
                return (lease with { HeldFor = duration }, JournalRefusal.None);
            },
            cancellation);
    }

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        return _writer.AskAsync(
            (connection, transaction) => connection.Execute(
                "UPDATE shard SET holder = NULL, expires = 0 WHERE id = @Id AND epoch = @Epoch AND term = @term AND holder = @Holder",
                new { Id = lease.Shard.Value, Epoch = lease.Epoch.Value, term = Text(lease.Term), lease.Holder },
                transaction),
            cancellation);
    }

    private static bool Holds(SqliteConnection connection, SqliteTransaction transaction, ShardLease lease) =>
        Holds(FindShard(connection, transaction, lease.Shard), lease);

    private static bool Holds([NotNullWhen(true)] ShardRow? row, ShardLease lease) =>
        row is not null && row.Epoch == lease.Epoch.Value && row.Term == Text(lease.Term) && row.Holder == lease.Holder;

    private static ShardRow? FindShard(SqliteConnection connection, SqliteTransaction transaction, ShardId shard) =>
        connection.QuerySingleOrDefault<ShardRow>("SELECT id, epoch, term, holder, expires, position FROM shard WHERE id = @Value", new { shard.Value }, transaction);

    private static long Microseconds(TimeSpan span) => span.Ticks / TimeSpan.TicksPerMicrosecond;

    private sealed record ShardRow
    {
        public int Id { get; init; }

        public long Epoch { get; init; }

        public string Term { get; init; } = "";

        public long Position { get; init; }

        public string? Holder { get; init; }

        public long Expires { get; init; }
    }
}
