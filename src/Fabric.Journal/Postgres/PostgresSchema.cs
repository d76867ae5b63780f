using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

/// <summary>The tables, in the schema "fabric". Times are the server's clock.</summary>
internal static class PostgresSchema
{
    internal const int Version = 2;

    // Any number, the same for all nodes: those that start at once make the tables one after another.
    private const long Lock = 0x6661627269634a6c;

    private const string Tables = """
        CREATE TABLE fabric.shard (
            id       int PRIMARY KEY,
            epoch    bigint NOT NULL,                   -- only grows
            term     uuid NOT NULL,                     -- of the last acquisition
            holder   text,                              -- null: given back
            expires  timestamptz NOT NULL,
            position bigint NOT NULL DEFAULT 0          -- of the last event
        ) WITH (fillfactor = 50);
        CREATE TABLE fabric.stream (
            id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- the order of creation
            name  text COLLATE "C" NOT NULL UNIQUE,
            shard int NOT NULL REFERENCES fabric.shard (id),
            last  bigint NOT NULL                       -- the highest sequence: a lost tail is noticed by it
        ) WITH (fillfactor = 80);
        CREATE INDEX stream_by_shard ON fabric.stream (shard, id);
        CREATE TABLE fabric.event (
            stream   bigint NOT NULL REFERENCES fabric.stream (id),
            sequence bigint NOT NULL,
            shard    int NOT NULL,
            position bigint NOT NULL,                   -- among all events of the shard, without a gap
            epoch    bigint NOT NULL,
            kind     text NOT NULL,
            version  int NOT NULL,
            payload  bytea NOT NULL,                    -- UTF-8 JSON, byte for byte
            appended timestamptz NOT NULL,
            holder   text NOT NULL,
            PRIMARY KEY (stream, sequence),
            UNIQUE (shard, position)
        );
        CREATE TABLE fabric.snapshot (
            stream   bigint PRIMARY KEY REFERENCES fabric.stream (id),
            sequence bigint NOT NULL,
            state    bytea NOT NULL
        );
        CREATE TABLE fabric.request (
            id       uuid PRIMARY KEY,
            stream   bigint NOT NULL REFERENCES fabric.stream (id),
            sequence bigint NOT NULL                    -- of the append's last event
        );
        CREATE TABLE fabric.cluster (
            one     int PRIMARY KEY CHECK (one = 1),
            id      uuid NOT NULL,
            version bigint NOT NULL,
            server  bigint                              -- the life of the server that wrote last; another one renews the id
        );
        CREATE TABLE fabric.member (
            number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- the order of joining
            node        uuid NOT NULL UNIQUE,
            name        text NOT NULL,
            cluster_url text NOT NULL,
            api_url     text NOT NULL,
            state       int NOT NULL,                   -- MemberState
            since       timestamptz NOT NULL,
            beat        timestamptz NOT NULL
        ) WITH (fillfactor = 50);
        CREATE TABLE fabric.suspicion (
            node uuid NOT NULL,
            by   uuid NOT NULL,
            at   timestamptz NOT NULL,
            PRIMARY KEY (node, by)
        );
        CREATE TABLE fabric.schema_version (version int NOT NULL);
        """;

    // Read from the table of tables: to_regclass may answer from what this connection looked up before another one made them.
    private const string Known = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'fabric' AND tablename = 'schema_version')";

    // A server that is started again, put back from a copy or promoted is another life of it.
    private const string Life = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";

    /// <summary>
    /// Run on every new connection, before anything else is asked on it. What a server that has started since may have lost cannot be known from its tables, so
    /// every such start is taken for a loss: the cluster gets another id and all leases are free, in one statement. Nobody writes under an older lease before that, since nobody has
    /// another connection to this life of the server.
    /// </summary>
    internal static async Task RenewForAnotherLifeAsync(NpgsqlConnection connection)
    {
        await using var tables = new NpgsqlCommand(Known, connection);
        if (await tables.ExecuteScalarAsync() is not true)
            return;
        await using var renew = new NpgsqlCommand(
            $"""
            WITH renewed AS (
                UPDATE fabric.cluster SET id = gen_random_uuid(), version = version + 1, server = {Life}
                WHERE server IS DISTINCT FROM {Life} AND (SELECT version FROM fabric.schema_version) = {Version}
                RETURNING 1)
            UPDATE fabric.shard SET holder = NULL, expires = clock_timestamp() WHERE EXISTS (SELECT FROM renewed)
            """,
            connection);
        await renew.ExecuteNonQueryAsync();
    }

    /// <summary>Makes the tables of a new database; refuses one of another version and leaves it as it is.</summary>
    internal static async Task<bool> EnsureAsync(NpgsqlConnection connection, Guid cluster)
    {
        await using var transaction = await connection.BeginTransactionAsync();
        await using (var begin = new NpgsqlCommand("SELECT pg_advisory_xact_lock($1)", connection) { Parameters = { new NpgsqlParameter<long> { TypedValue = Lock } } })
            await begin.ExecuteNonQueryAsync();
        await using var known = new NpgsqlCommand(Known, connection);
        if (await known.ExecuteScalarAsync() is not true)
        {
            await using var make = new NpgsqlCommand($"CREATE SCHEMA IF NOT EXISTS fabric; {Tables} INSERT INTO fabric.schema_version (version) VALUES ({Version})", connection);
            await make.ExecuteNonQueryAsync();
            await using var first = new NpgsqlCommand($"INSERT INTO fabric.cluster (one, id, version, server) VALUES (1, $1, 1, {Life})", connection)
            {
                Parameters = { new NpgsqlParameter<Guid> { TypedValue = cluster } },
            };
            await first.ExecuteNonQueryAsync();
        }

        await using var version = new NpgsqlCommand("SELECT version FROM fabric.schema_version", connection);
        if (await version.ExecuteScalarAsync() is not Version)
        {
            throw new FabricException(
                ErrorCodes.Incompatible, $"The journal's tables are not of version {Version}, the one that this program knows.", "Use the version of the program that made them.");
        }

        await transaction.CommitAsync();
        return true;
    }
}
