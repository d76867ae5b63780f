using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

/// <summary>
/// A few connections and a bounded number of calls that wait for one. Reads and writes have a lane each, so that neither waits for the other.
/// A caller that gives up leaves its call to end by the server's own limits. After an error of the store all idle connections of the lane are closed:
/// the next call connects again.
/// </summary>
internal sealed class PostgresLane(PostgresServer server, PostgresJournalOptions options, TimeProvider time) : IAsyncDisposable
{
    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(30);

    private readonly NpgsqlDataSource _source = server.Connect(options.Connections);
    private readonly SemaphoreSlim _slots = new(options.Connections);
    private readonly TaskCompletionSource _idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _calls = 1; // one is the lane's own, until it closes
    private bool _closing;

    /// <exception cref="FabricException">exhausted: too many wait, nothing was done. store-failed: the outcome is unknown.</exception>
    internal async Task<T> AskAsync<T>(Func<NpgsqlConnection, Task<T>> body, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (Volatile.Read(ref _closing))
            throw new FabricException(ErrorCodes.StoreFailed, $"The journal at {server.Where} is closed.");
        if (Interlocked.Increment(ref _calls) > options.QueueCapacity + options.Connections + 1)
        {
            Leave();
            throw new FabricException(
                ErrorCodes.Exhausted, $"{options.QueueCapacity} calls wait for the journal at {server.Where} already; this one was not begun.", "Try again later.");
        }

        var call = RunAsync(body, time.GetTimestamp(), cancellation);
        try
        {
            return await call.WaitAsync(options.Deadline, time, cancellation);
        }
        catch (TimeoutException late)
        {
            throw Late(server, options, late);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _closing, true))
            return;
        Leave();
        await _idle.Task.WaitAsync(StopDeadline, TimeProvider.System);
        await _source.DisposeAsync();
        _slots.Dispose();
    }

    internal static FabricException Late(PostgresServer server, PostgresJournalOptions options, Exception late) => new(
        ErrorCodes.StoreFailed,
        $"The journal at {server.Where} gave no answer within {options.Deadline.TotalSeconds:0.#} s; the outcome is unknown.",
        "Read again before going on.",
        late);

    private async Task<T> RunAsync<T>(Func<NpgsqlConnection, Task<T>> body, long asked, CancellationToken cancellation)
    {
        bool entered = false;
        try
        {
            await _slots.WaitAsync(options.Deadline, cancellation);
            entered = true;
            if (time.GetElapsedTime(asked) >= options.Deadline)
                throw new FabricException(ErrorCodes.StoreFailed, $"The journal at {server.Where} is too slow; the call was not begun.");
            await using var connection = await _source.OpenConnectionAsync(CancellationToken.None);
            return await body(connection);
        }
        catch (Exception exception) when (exception is not FabricException && !(exception is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            _source.Clear();
            throw server.Describe(exception);
        }
        finally
        {
            if (entered)
                _slots.Release();
            Leave();
        }
    }

    private void Leave()
    {
        if (Interlocked.Decrement(ref _calls) == 0)
            _idle.TrySetResult();
    }
}
