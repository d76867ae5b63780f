using Fabric.Core;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Channels;

/// <summary>
/// What the threads of one end of a transfer share: its channels, its end, and the first thing that went wrong. The first failure shuts every
/// socket down, so that every thread comes back from the kernel, and is what every waiter is told. All members: any thread.
/// </summary>
internal sealed class TransferLife : IDisposable
{
    /// <summary>How long a broken page connection waits for the reason that may still be on its way on the control connection.</summary>
    private static readonly TimeSpan ReasonGrace = TimeSpan.FromMilliseconds(200);

    private readonly Lock _gate = new();
    private readonly List<DataChannel> _channels = [];
    private readonly List<Thread> _threads = [];
    private readonly CancellationTokenSource _ended = new();
    private readonly TaskCompletionSource<FabricError?> _end = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly string _name;
    private FabricException? _error;
    private bool _over;

    public TransferLife(string name, TimeProvider time, ILogger logger)
    {
        _name = name;
        _time = time;
        _logger = logger;
        Ended = _ended.Token;
    }

    /// <summary>Fires at the end, good or bad.</summary>
    public CancellationToken Ended { get; }

    /// <summary>Completes at the end: with its error, or with null after a good one.</summary>
    public Task<FabricError?> Over => _end.Task;

    public bool IsOver => Volatile.Read(ref _over);

    public FabricException? Error => Volatile.Read(ref _error);

    /// <summary>
    /// Takes a channel over; false when the end was earlier: the channel stays the caller's. It is not disposed here, since closing a socket waits
    /// for everyone who holds its descriptor, and whoever hands one over may be such a one.
    /// </summary>
    public bool TryOwn(DataChannel channel)
    {
        lock (_gate)
        {
            if (!_over)
                _channels.Add(channel);
            return !_over;
        }
    }

    /// <summary>Runs a loop in a thread of its own, which is joined by <see cref="Dispose"/>. What it throws ends the transfer.</summary>
    /// <param name="readsControl">The loop that hears the peer's reasons: its own failure needs no other explanation.</param>
    public void Start(string name, Action body, bool readsControl = false)
    {
        Thread thread = new(() => Guard(body, readsControl)) { IsBackground = true, Name = name };
        lock (_gate)
        {
            if (_over)
                return;
            _threads.Add(thread);
            thread.Start();
        }
    }

    /// <summary>Ends the transfer with an error, unless it is over. The peer is told, if that can be done at once.</summary>
    public void Fail(FabricException error)
    {
        DataChannel? control;
        lock (_gate)
        {
            if (_over)
                return;
            _error = error;
            Volatile.Write(ref _over, true);
            control = _channels.Find(c => c.Kind == ChannelKind.Control);
        }

        _logger.LogInformation("{Transfer} ends: {Error}", _name, error.Error);
        if (control is not null && error.Error.Code != ErrorCodes.Unreachable)
            control.TrySayBye(error.Error);
        ShutDown();
    }

    /// <summary>Ends the transfer without an error, unless it is over.</summary>
    public void End()
    {
        lock (_gate)
        {
            if (_over)
                return;
            Volatile.Write(ref _over, true);
        }

        ShutDown();
    }

    public void ThrowIfOver()
    {
        if (IsOver)
            throw Error ?? new FabricException(ErrorCodes.Cancelled, $"{_name} is over.");
    }

    /// <summary>
    /// Awaits what a thread of this transfer or the peer will bring about. What came before the end counts, also when the end is noticed first:
    /// a peer that has said its last word closes its connections at once.
    /// </summary>
    /// <exception cref="FabricException">What ended the transfer; deadline-exceeded (which then ends it).</exception>
    public async Task<T> WithinAsync<T>(Task<T> task, TimeSpan deadline, string what, CancellationToken cancellation)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(Ended, cancellation);
        try
        {
            return await task.WaitAsync(deadline, _time, either.Token);
        }
        catch (Exception) when (task.IsCompletedSuccessfully)
        {
            // The peer said it and closed at once, as it may after its last word: what was said counts, not what followed.
            return await task;
        }
        catch (TimeoutException)
        {
            Fail(new FabricException(ErrorCodes.DeadlineExceeded, $"{what} did not come within {deadline.TotalSeconds:0.#} s."));
            throw Error ?? new FabricException(ErrorCodes.DeadlineExceeded, what);
        }
        catch (OperationCanceledException) when (IsOver && !cancellation.IsCancellationRequested)
        {
            ThrowIfOver();
            throw;
        }
    }

    /// <summary>Waits for all threads, then closes everything. Not from one of its threads.</summary>
    public void Dispose()
    {
        End();
        Thread[] threads;
        lock (_gate)
            threads = [.. _threads];
        foreach (Thread thread in threads)
            thread.Join();
        foreach (DataChannel channel in _channels)
            channel.Dispose();
        _ended.Dispose();
    }

    private void ShutDown()
    {
        lock (_gate)
        {
            foreach (DataChannel channel in _channels)
                channel.Shutdown();
        }

        _ended.Cancel();
        _end.TrySetResult(Error?.Error);
    }

    /// <summary>
    /// A peer that gives up says why on the control connection and closes all of them. Whichever thread sees its own connection close first must not
    /// drown the reason: it leaves the control thread a moment to read it.
    /// </summary>
    private void FailUnlessTold(FabricException error)
    {
        if (!_ended.Token.WaitHandle.WaitOne(ReasonGrace))
            Fail(error);
    }

    private void Guard(Action body, bool readsControl)
    {
        try
        {
            body();
        }
        catch (FabricException e) when (e.Error.Code == ErrorCodes.Unreachable && !readsControl && !IsOver)
        {
            FailUnlessTold(e);
        }
        catch (FabricException e)
        {
            Fail(e);
        }
        catch (OperationCanceledException) when (IsOver)
        {
            // Ended from outside.
        }
        catch (Exception e)
        {
            if (!IsOver)
                _logger.LogError(e, "{Transfer}: a defect in the data plane", _name);
            Fail(new FabricException(ErrorCodes.Internal, $"{_name}: {e.Message}", cause: e));
        }
    }
}
