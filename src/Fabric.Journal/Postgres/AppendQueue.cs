using System.Threading.Channels;
using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

// One connection, one queue, one loop. Appends that wait while the server syncs share the next transaction:
//
//   callers ──▶ queue (bounded) ──▶ loop: take all that wait (≤ GroupLimit, ≤ GroupBytes)
//                                         first round trip:  BEGIN, lock the shards' rows in the order of their ids, read streams and requests
//                                         judge each append in turn, against what was read and what those before it will have written
//                                         second round trip: write all, COMMIT (the one sync)
//                                         only now give out the answers
//
//   - A refusal leaves nothing behind and does not touch the others of its group.
//   - Two nodes that write the same request, or a stream of one name, in two shards at once collide at a unique index. Then nothing of the group is
//     written, which is certain, and the group is judged again: one of the two now sees the other's.
//   - Any other error, COMMIT included, means for all of them: outcome unknown. The connection is closed, a new one is made for the next group.
//   - An append whose caller has given up before it was begun is not run at all.

/// <summary>One append on its way.</summary>
internal sealed class PendingAppend(ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request)
{
    private readonly TaskCompletionSource<JournalRefusal> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile bool _abandoned;

    internal ShardLease Lease => lease;

    internal StreamId Stream => stream;

    internal long LastSequence => lastSequence;

    internal IReadOnlyList<NewEvent> Events => events;

    internal Guid? Request => request;

    internal long Bytes { get; } = events.Sum(static e => (long)e.Payload.Length);

    /// <summary>The caller no longer waits; nothing was done yet.</summary>
    internal bool IsAbandoned => _abandoned;

    internal void Complete(JournalRefusal refusal, FabricException? error)
    {
        if (error is null)
            _outcome.TrySetResult(refusal);
        else
            _outcome.TrySetException(error);
    }

    internal void Fail(FabricException failure) => _outcome.TrySetException(failure);

    internal async Task<JournalRefusal> WaitAsync(TimeSpan deadline, TimeProvider time, CancellationToken cancellation)
    {
        try
        {
            return await _outcome.Task.WaitAsync(deadline, time, cancellation);
        }
        finally
        {
            _abandoned = true;
        }
    }
}

internal sealed class AppendQueue : IAsyncDisposable
{
    /// <summary>Payloads of one group; a larger append is a group of its own.</summary>
    private const long GroupBytes = 8 * 1024 * 1024;

    /// <summary>How often a group is judged again after it collided with another node's.</summary>
    private const int Attempts = 5;

    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(30);

    private readonly PostgresServer _server;
    private readonly PostgresJournalOptions _options;
    private readonly TimeProvider _time;
    private readonly NpgsqlDataSource _source;
    private readonly Channel<PendingAppend> _queue;
    private readonly Task _loop;
    private long _commits;

    internal AppendQueue(PostgresServer server, PostgresJournalOptions options, TimeProvider time)
    {
        _server = server;
        _options = options;
        _time = time;
        _source = server.Connect(connections: 1);
        _queue = Channel.CreateBounded<PendingAppend>(new BoundedChannelOptions(options.QueueCapacity) { SingleReader = true });
        _loop = Task.Run(LoopAsync);
    }

    /// <summary>Groups committed so far.</summary>
    internal long Commits => Interlocked.Read(ref _commits);

    /// <exception cref="FabricException">exhausted: the queue is full, nothing was done. store-failed: the outcome is unknown.</exception>
    internal async Task<JournalRefusal> AskAsync(PendingAppend append, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (!_queue.Writer.TryWrite(append))
        {
            throw _queue.Reader.Completion.IsCompleted || _loop.IsCompleted
                ? new FabricException(ErrorCodes.StoreFailed, $"The journal at {_server.Where} is closed.")
                : new FabricException(
                    ErrorCodes.Exhausted, $"{_options.QueueCapacity} appends wait for the journal at {_server.Where} already; this one was not begun.", "Try again later.");
        }

        try
        {
            return await append.WaitAsync(_options.Deadline, _time, cancellation);
        }
        catch (TimeoutException late)
        {
            throw PostgresLane.Late(_server, _options, late);
        }
    }

    /// <summary>What is queued is still done; then the connection is closed.</summary>
    public async ValueTask DisposeAsync()
    {
        _queue.Writer.TryComplete();
        await _loop.WaitAsync(StopDeadline, TimeProvider.System);
        await _source.DisposeAsync();
    }

    private async Task LoopAsync()
    {
        var group = new List<PendingAppend>(_options.GroupLimit);
        while (await _queue.Reader.WaitToReadAsync())
        {
            group.Clear();
            long bytes = 0;
            while (group.Count < _options.GroupLimit && _queue.Reader.TryPeek(out var next) && (group.Count == 0 || bytes + next.Bytes <= GroupBytes))
            {
                _queue.Reader.TryRead(out _);
                if (next.IsAbandoned)
                    continue;
                group.Add(next);
                bytes += next.Bytes;
            }

            if (group.Count > 0)
                await RunGroupAsync(group);
        }
    }

    private async Task RunGroupAsync(List<PendingAppend> pending)
    {
        var group = new AppendGroup(pending);
        try
        {
            for (int attempt = 1; ; attempt++)
            {
                await using var connection = await _source.OpenConnectionAsync();
                try
                {
                    await group.ReadAsync(connection);
                    group.Judge();
                    await group.WriteAsync(connection);
                    break;
                }
                catch (PostgresException collision) when (attempt < Attempts && collision.SqlState is PostgresErrorCodes.UniqueViolation or PostgresErrorCodes.DeadlockDetected)
                {
                    await using var undo = new NpgsqlCommand("ROLLBACK", connection);
                    await undo.ExecuteNonQueryAsync();
                }
            }

            Interlocked.Increment(ref _commits);
        }
#pragma warning disable CA1031 // Whatever the store throws, the callers must hear of it and the loop must live.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            _source.Clear();
            var failure = exception as FabricException ?? _server.Describe(exception);
            foreach (var append in pending)
                append.Fail(failure);
            return;
        }

        group.Complete();
    }
}
