using Dapper;
using Fabric.Core;

namespace Fabric.Journal.Postgres;

// Leases, one statement each. A shard row says who may append. Its epoch and term are what protects the streams; its expiry only says when somebody else
// may try. So an owner that is late but was not replaced may still append and renew; one that was replaced never can.

public sealed partial class PostgresJournal
{
    // States 3 and 4 are Left and Dead.
    private const string Acquire = """
        INSERT INTO fabric.shard AS s (id, epoch, term, holder, expires)
        SELECT @Id, @Floor + 1, @Term, @holder, clock_timestamp() + @duration
        WHERE NOT EXISTS (SELECT FROM fabric.member WHERE node::text = @holder AND state IN (3, 4))
        ON CONFLICT (id) DO UPDATE
            SET epoch = greatest(s.epoch, @Floor) + 1, term = excluded.term, holder = excluded.holder, expires = clock_timestamp() + @duration
            WHERE s.holder IS NULL OR s.holder = excluded.holder OR s.expires <= clock_timestamp()
                OR EXISTS (SELECT FROM fabric.member WHERE node::text = s.holder AND state IN (3, 4))
        RETURNING epoch;
        SELECT EXISTS (SELECT FROM fabric.member WHERE node::text = @holder AND state IN (3, 4));
        """;

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> AcquireAsync(
        ShardId shard, string holder, TimeSpan duration, Epoch floor, CancellationToken cancellation)
    {
        JournalRules.RequireHolder(holder, duration);
        JournalRules.RequireFloor(floor);
        return _writes.AskAsync<(ShardLease?, JournalRefusal)>(
            async connection =>
            {
                Guid term = NewId();
                await using var answers = await connection.QueryMultipleAsync(Acquire, new { Id = shard.Value, Floor = floor.Value, Term = term, holder, duration });
                long? epoch = await answers.ReadSingleOrDefaultAsync<long?>();
                bool final = await answers.ReadSingleAsync<bool>();
                return epoch is { } raised
                    ? (new ShardLease(shard, holder, new Epoch(raised), term, duration), JournalRefusal.None)
                    : (null, final ? JournalRefusal.NoMember : JournalRefusal.HeldByAnother);
            },
            cancellation);
    }

    public Task<(ShardLease? Lease, JournalRefusal Refusal)> RenewAsync(ShardLease lease, TimeSpan duration, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        JournalRules.RequireHolder(lease.Holder, duration);
        return _writes.AskAsync<(ShardLease?, JournalRefusal)>(
            async connection =>
            {
                int renewed = await connection.ExecuteAsync(
                    "UPDATE fabric.shard SET expires = clock_timestamp() + @duration WHERE id = @Id AND epoch = @Epoch AND term = @Term AND holder = @Holder",
                    new { Id = lease.Shard.Value, Epoch = lease.Epoch.Value, lease.Term, lease.Holder, duration });
                return renewed == 0 ? (null, JournalRefusal.Fenced) : (lease with { HeldFor = duration }, JournalRefusal.None);
            },
            cancellation);
    }

    public Task ReleaseAsync(ShardLease lease, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lease);
        return _writes.AskAsync(
            connection => connection.ExecuteAsync(
                "UPDATE fabric.shard SET holder = NULL, expires = clock_timestamp() WHERE id = @Id AND epoch = @Epoch AND term = @Term AND holder = @Holder", Key(lease)),
            cancellation);
    }
}
