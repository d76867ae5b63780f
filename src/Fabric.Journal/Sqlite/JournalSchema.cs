using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

/// <summary>The tables. Times are microseconds since 1970 by the store's clock; ids are 32 hex digits with hyphens.</summary>
internal static class JournalSchema
{
    internal const int Version = 2;

    private const string Tables = """
        CREATE TABLE shard (
            id       INTEGER PRIMARY KEY,
            epoch    INTEGER NOT NULL,              -- only grows
            holder   TEXT,                          -- null: given back
            expires  INTEGER NOT NULL,
            term     TEXT NOT NULL DEFAULT '',      -- of the last acquisition
            position INTEGER NOT NULL DEFAULT 0     -- of the last event
        );
        CREATE TABLE stream (
            id    INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of creation
            name  TEXT NOT NULL UNIQUE,
            shard INTEGER NOT NULL REFERENCES shard (id),
            last  INTEGER NOT NULL                     -- the highest sequence: a lost tail is noticed by it
        );
        CREATE INDEX stream_by_shard ON stream (shard, id);
        CREATE TABLE snapshot (
            stream   INTEGER PRIMARY KEY REFERENCES stream (id),
            sequence INTEGER NOT NULL,
            state    BLOB NOT NULL
        );
        """;

    private const string Events = """
        CREATE TABLE event (
            stream   INTEGER NOT NULL REFERENCES stream (id),
            sequence INTEGER NOT NULL,
            shard    INTEGER NOT NULL,
            position INTEGER NOT NULL,              -- among all events of the shard, without a gap
            epoch    INTEGER NOT NULL,
            kind     TEXT NOT NULL,
            version  INTEGER NOT NULL,
            payload  BLOB NOT NULL,
            appended INTEGER NOT NULL,
            holder   TEXT NOT NULL,
            PRIMARY KEY (stream, sequence)
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX event_by_shard ON event (shard, position);
        """;

    private const string Rest = """
        CREATE TABLE request (
            id       TEXT PRIMARY KEY,
            stream   INTEGER NOT NULL REFERENCES stream (id),
            sequence INTEGER NOT NULL               -- of the append's last event
        ) WITHOUT ROWID;
        CREATE TABLE cluster (
            one     INTEGER PRIMARY KEY CHECK (one = 1),
            id      TEXT NOT NULL,
            version INTEGER NOT NULL
        );
        CREATE TABLE member (
            number      INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of joining
            node        TEXT NOT NULL UNIQUE,
            name        TEXT NOT NULL,
            cluster_url TEXT NOT NULL,
            api_url     TEXT NOT NULL,
            state       INTEGER NOT NULL,                    -- MemberState
            since       INTEGER NOT NULL,
            beat        INTEGER NOT NULL
        );
        CREATE TABLE suspicion (
            node TEXT NOT NULL,
            by   TEXT NOT NULL,
            at   INTEGER NOT NULL,
            PRIMARY KEY (node, by)
        ) WITHOUT ROWID;
        INSERT INTO cluster (one, id, version) VALUES (1, @cluster, 1);
        """;

    // Positions of old events follow the clock, but never against the order within a stream: it may have been set back between two of them.
    private const string From1 = $"""
        ALTER TABLE shard ADD COLUMN term TEXT NOT NULL DEFAULT '';
        ALTER TABLE shard ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE event RENAME TO event_of_1;
        {Events}
        INSERT INTO event (stream, sequence, shard, position, epoch, kind, version, payload, appended, holder)
            SELECT stream, sequence, shard, row_number() OVER (PARTITION BY shard ORDER BY latest, stream, sequence), epoch, kind, version, payload, appended, holder
            FROM (SELECT e.*, s.shard, max(e.appended) OVER (PARTITION BY e.stream ORDER BY e.sequence) AS latest FROM event_of_1 e JOIN stream s ON s.id = e.stream);
        DROP TABLE event_of_1;
        UPDATE shard SET position = (SELECT count(*) FROM event WHERE event.shard = shard.id);
        {Rest}
        UPDATE schema_version SET version = 2;
        """;

    /// <summary>Makes the tables of a new file, brings one of version 1 up to date; refuses a file of another version and leaves it as it is.</summary>
    internal static bool Ensure(SqliteConnection connection, SqliteTransaction transaction, string cluster)
    {
        connection.Execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)", transaction: transaction);
        long? version = connection.QuerySingleOrDefault<long?>("SELECT version FROM schema_version", transaction: transaction);
        switch (version)
        {
            case Version:
                break;
            case null:
                connection.Execute(Tables + Events + Rest, new { cluster }, transaction);
                connection.Execute("INSERT INTO schema_version (version) VALUES (@Version)", new { Version }, transaction);
                break;
            case 1:
                connection.Execute(From1, new { cluster }, transaction);
                break;
            default:
                throw new FabricException(
                    ErrorCodes.Incompatible, $"The journal has schema {version}; this program knows schema {Version}.", "Use the version of the program that wrote it.");
        }

        return true;
    }
}
