using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

/// <summary>Where the journal of one machine is, and how long its callers wait.</summary>
public sealed record SqliteJournalOptions
{
    /// <summary>Absolute path of the database file; made, readable by its owner only, when it is not there. Its folder must exist, on a local file system.</summary>
    public required string Path { get; init; }

    /// <summary>How long a transaction waits for another process's write lock: 1 s to 1 min (SQLite's driver cannot wait for less).</summary>
    public TimeSpan BusyTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long any call waits for its outcome, queueing included; beyond it the outcome is unknown.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Requests that may wait, for writes and for reads each; a further one is refused.</summary>
    public int QueueCapacity { get; init; } = 1024;

    /// <summary>Requests that share one transaction and so one sync of the disk.</summary>
    public int GroupLimit { get; init; } = 64;

    /// <summary>For tests of a failing store: sees each connection as it is opened.</summary>
    internal Action<SqliteConnection>? Opened { get; init; }

    /// <summary>For tests of a failing store: runs on the store's thread before each transaction begins.</summary>
    internal Action? Beginning { get; init; }

    /// <summary>For tests of a failing store: runs on the store's thread when a transaction is durable, before anybody hears of it.</summary>
    internal Action? Committed { get; init; }
}
