using System.Collections.Concurrent;
using Dapper;
using Fabric.Core;
using Microsoft.Data.Sqlite;

namespace Fabric.Journal.Sqlite;

// One thread, one connection, one queue. SQLite blocks its caller and allows one writer at a time anyway; so the blocking happens on a
// named thread of our own and never on the pool, and requests that pile up while the disk syncs share the next sync:
//
//   callers ──▶ queue (bounded) ──▶ thread: take all that wait (≤ GroupLimit)
//                                           BEGIN IMMEDIATE (writer) or BEGIN (reader)
//                                           run each: its own answer, refusal included, kept aside
//                                           COMMIT (the one sync)
//                                           only now give out the answers
//
//   - A request checks before it writes and, once it writes, either goes through or fails by an error of the store. So a refusal leaves
//     nothing behind and the others of its group are not touched by it.
//   - An error of the store anywhere in the group, COMMIT included, means for all of them: outcome unknown. The connection is closed
//     (which rolls back what was not committed) and a new one is opened for the next group.
//   - A request whose caller has given up before it was begun is not run at all.

/// <summary>One call on its way through a <see cref="StoreThread"/>.</summary>
internal abstract class StoreRequest
{
    /// <summary>The caller no longer waits; nothing was done yet.</summary>
    internal abstract bool IsAbandoned { get; }

    /// <summary>Inside the transaction. Keeps the answer, or the refusal, for <see cref="Complete"/>.</summary>
    internal abstract void Run(SqliteConnection connection, SqliteTransaction transaction);

    /// <summary>The transaction is durable: the answer holds.</summary>
    internal abstract void Complete();

    internal abstract void Fail(FabricException failure);
}

internal sealed class StoreRequest<T>(Func<SqliteConnection, SqliteTransaction, T> body) : StoreRequest
{
    private readonly TaskCompletionSource<T> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile bool _abandoned;
    private T? _answer;
    private FabricException? _refusal;

    internal override bool IsAbandoned => _abandoned;

    internal override void Run(SqliteConnection connection, SqliteTransaction transaction)
    {
        try
        {
            _answer = body(connection, transaction);
        }
        catch (FabricException refusal)
        {
            _refusal = refusal;
        }
    }

    internal override void Complete()
    {
        if (_refusal is null)
            _outcome.TrySetResult(_answer!);
        else
            _outcome.TrySetException(_refusal);
    }

    internal override void Fail(FabricException failure) => _outcome.TrySetException(failure);

    internal async Task<T> WaitAsync(TimeSpan deadline, TimeProvider time, CancellationToken cancellation)
    {
        try
        {
            return await _outcome.Task.WaitAsync(deadline, time, cancellation);
        }
        catch (TimeoutException late)
        {
            throw new FabricException(
                ErrorCodes.StoreFailed, $"The journal gave no answer within {deadline.TotalSeconds:0.#} s; the outcome is unknown.", "Read again before going on.", late);
        }
        finally
        {
            _abandoned = true;
        }
    }
}

internal sealed class StoreThread : IAsyncDisposable
{
    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(30);

    private readonly SqliteJournalOptions _options;
    private readonly TimeProvider _time;
    private readonly bool _writes;
    private readonly BlockingCollection<StoreRequest> _queue;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _commits;
    private int _disposed;

    // The thread's own.
    private SqliteConnection? _connection;

    internal StoreThread(string name, bool writes, SqliteJournalOptions options, TimeProvider time)
    {
        _options = options;
        _time = time;
        _writes = writes;
        _queue = new BlockingCollection<StoreRequest>(options.QueueCapacity);
        new Thread(Loop) { Name = name, IsBackground = true }.Start();
    }

    /// <summary>Groups committed so far.</summary>
    internal long Commits => Interlocked.Read(ref _commits);

    /// <exception cref="FabricException">exhausted: the queue is full, nothing was done. store-failed: the outcome is unknown.</exception>
    internal Task<T> AskAsync<T>(Func<SqliteConnection, SqliteTransaction, T> body, CancellationToken cancellation)
    {
        if (cancellation.IsCancellationRequested)
            return Task.FromCanceled<T>(cancellation);
        var request = new StoreRequest<T>(body);
        bool queued;
        try
        {
            queued = _queue.TryAdd(request);
        }
        catch (InvalidOperationException)
        {
            return Task.FromException<T>(new FabricException(ErrorCodes.StoreFailed, $"The journal {_options.Path} is closed."));
        }

        return queued
            ? request.WaitAsync(_options.Deadline, _time, cancellation)
            : Task.FromException<T>(new FabricException(
                ErrorCodes.Exhausted, $"{_options.QueueCapacity} requests wait for the journal {_options.Path} already; this one was not begun.", "Try again later."));
    }

    /// <summary>What is queued is still done; then the connection is closed.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
            _queue.CompleteAdding();
        await _ended.Task.WaitAsync(StopDeadline, TimeProvider.System);
    }

    private void Loop()
    {
        var group = new List<StoreRequest>(_options.GroupLimit);
        foreach (var first in _queue.GetConsumingEnumerable())
        {
            group.Clear();
            Take(group, first);
            while (group.Count < _options.GroupLimit && _queue.TryTake(out var next))
                Take(group, next);
            if (group.Count > 0)
                RunGroup(group);
        }

        Close();
        _queue.Dispose();
        _ended.SetResult();
    }

    private static void Take(List<StoreRequest> group, StoreRequest request)
    {
        if (!request.IsAbandoned)
            group.Add(request);
    }

    private void RunGroup(List<StoreRequest> group)
    {
        try
        {
            _options.Beginning?.Invoke();
            var connection = _connection ??= Open();
            using (var transaction = connection.BeginTransaction(deferred: !_writes))
            {
                foreach (var request in group)
                    request.Run(connection, transaction);
                transaction.Commit();
            }

            Interlocked.Increment(ref _commits);
            _options.Committed?.Invoke();
        }
#pragma warning disable CA1031 // Whatever the store throws, the callers must hear of it and the thread must live.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            Close();
            var failure = exception as FabricException ?? Describe(exception);
            foreach (var request in group)
                request.Fail(failure);
            return;
        }

        foreach (var request in group)
            request.Complete();
    }

    private SqliteConnection Open()
    {
        CreateFile();
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder
        {
            DataSource = _options.Path,
            Mode = SqliteOpenMode.ReadWrite,
            Pooling = false,
            // The driver's own retry, in whole seconds, on top of SQLite's: the shortest that is not "for ever".
            DefaultTimeout = 1,
        }.ToString());
        try
        {
            connection.Open();
            connection.Execute($"PRAGMA busy_timeout = {(long)_options.BusyTimeout.TotalMilliseconds}");
            string? mode = connection.ExecuteScalar<string>("PRAGMA journal_mode = WAL");
            if (mode != "wal")
                throw new FabricException(ErrorCodes.StoreFailed, $"The journal {_options.Path} cannot use write-ahead logging (it says '{mode}').", "Put it on a local file system.");
            connection.Execute("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
            _options.Opened?.Invoke(connection);
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>Makes the file if it is not there, so that it is never readable by others, not even for a moment.</summary>
    private void CreateFile()
    {
        var file = new FileStreamOptions { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.ReadWrite };
        if (!OperatingSystem.IsWindows())
            file.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        File.Open(_options.Path, file).Dispose();
    }

    private void Close()
    {
        try
        {
            _connection?.Dispose();
        }
        catch (SqliteException)
        {
            // A broken connection may fail to close cleanly; its file handles are gone all the same.
        }

        _connection = null;
    }

    private FabricException Describe(Exception exception)
    {
        string? hint = (exception as SqliteException)?.SqliteErrorCode switch
        {
            5 or 6 => "Another process holds the write lock: only one control node may use this file.",
            10 => "The disk reports an error; see the kernel's log.",
            11 or 26 => "The file is damaged. It was left as it is; restore it from a backup.",
            13 => "The disk is full: free some space.",
            8 or 14 => "Check that the folder exists and is writable by this user.",
            _ => null,
        };
        string code = exception is SqliteException sqlite ? $" (SQLite {sqlite.SqliteExtendedErrorCode})" : "";
        return new FabricException(ErrorCodes.StoreFailed, $"The journal {_options.Path} failed{code}: {exception.Message} The outcome is unknown.", hint, exception);
    }
}
