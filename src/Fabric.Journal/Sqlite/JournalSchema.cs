using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

/// <summary>The tables. Times are microseconds since 1970 by the store's clock.</summary>
internal static class JournalSchema
{
    internal const int Version = 1;

    private const string Tables = """
        CREATE TABLE shard (
            id      INTEGER PRIMARY KEY,
            epoch   INTEGER NOT NULL,       -- only grows
            holder  TEXT,                   -- null: given back
            expires INTEGER NOT NULL
        );
        CREATE TABLE stream (
            id    INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of creation
            name  TEXT NOT NULL UNIQUE,
            shard INTEGER NOT NULL REFERENCES shard (id),
            last  INTEGER NOT NULL                     -- the highest sequence: a lost tail is noticed by it
        );
        CREATE INDEX stream_by_shard ON stream (shard, id);
        CREATE TABLE event (
            stream   INTEGER NOT NULL REFERENCES stream (id),
            sequence INTEGER NOT NULL,
            epoch    INTEGER NOT NULL,
            kind     TEXT NOT NULL,
            version  INTEGER NOT NULL,
            payload  BLOB NOT NULL,
            appended INTEGER NOT NULL,
            holder   TEXT NOT NULL,
            PRIMARY KEY (stream, sequence)
        ) WITHOUT ROWID;
        CREATE TABLE snapshot (
            stream   INTEGER PRIMARY KEY REFERENCES stream (id),
            sequence INTEGER NOT NULL,
            state    BLOB NOT NULL
        );
        """;

    /// <summary>Makes the tables of a new file; refuses a file of another version and leaves it as it is.</summary>
    internal static bool Ensure(SqliteConnection connection, SqliteTransaction transaction)
    {
        connection.Execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)", transaction: transaction);
        long? version = connection.QuerySingleOrDefault<long?>("SELECT version FROM schema_version", transaction: transaction);
        if (version is null)
        {
            connection.Execute(Tables, transaction: transaction);
            connection.Execute("INSERT INTO schema_version (version) VALUES (@Version)", new { Version }, transaction);
            return true;
        }

        return version == Version
            ? true
            : throw new FabricException(
                ErrorCodes.Incompatible, $"The journal has schema {version}; this program knows schema {Version}.", "Use the version of the program that wrote it.");
    }
}
