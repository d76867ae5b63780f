using Fabric.Daemon.Configuration;
using Fabric.Journal;
using Fabric.Journal.Postgres;
using Fabric.Journal.Sqlite;

namespace Fabric.Daemon.Control;

/// <summary>Opens what a control node keeps everything in: a PostgreSQL database that the nodes of a cluster share, or an SQLite file of one node.</summary>
internal static class ControlStore
{
    /// <exception cref="Core.FabricException">store-failed, incompatible, or invalid-argument, naming the file or the server.</exception>
    public static async Task<(IJournal Journal, IMembership Membership)> OpenAsync(ControlSettings settings, TimeProvider time, Random random, CancellationToken cancellation)
    {
        if (settings.Database is { } database)
        {
            var postgres = await PostgresJournal.OpenAsync(new PostgresJournalOptions { ConnectionString = database }, time, random, cancellation);
            return (postgres, postgres);
        }

        var sqlite = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = settings.Journal }, time, random, cancellation);
        return (sqlite, sqlite);
    }
}
