using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

/// <summary>The tables, in the schema "fabric". Times are the server's clock.</summary>
internal static class PostgresSchema
{
    internal const int Version = 1;

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
            version bigint NOT NULL
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

    /// <summary>Makes the tables of a new database; refuses one of another version and leaves it as it is.</summary>
    internal static async Task<bool> EnsureAsync(NpgsqlConnection connection, Guid cluster)
    {
        await using var transaction = await connection.BeginTransactionAsync();
        await using (var begin = new NpgsqlCommand("SELECT pg_advisory_xact_lock($1)", connection) { Parameters = { new NpgsqlParameter<long> { TypedValue = Lock } } })
            await begin.ExecuteNonQueryAsync();
        await using var known = new NpgsqlCommand("SELECT to_regclass('fabric.schema_version') IS NOT NULL", connection);
        if (await known.ExecuteScalarAsync() is not true)
        {
            await using var make = new NpgsqlCommand($"CREATE SCHEMA IF NOT EXISTS fabric; {Tables} INSERT INTO fabric.schema_version (version) VALUES ({Version})", connection);
            await make.ExecuteNonQueryAsync();
            await using var first = new NpgsqlCommand("INSERT INTO fabric.cluster (one, id, version) VALUES (1, $1, 1)", connection)
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
