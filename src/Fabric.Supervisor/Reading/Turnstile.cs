namespace Fabric.Supervisor.Reading;

/// <summary>
/// Lets in one at a time, in the order of asking. Who waits goes on in its own context; a waiter of <see cref="SemaphoreSlim"/> that can be called off comes back over the pool, off the
/// thread of a simulation. Any thread.
/// </summary>
internal sealed class Turnstile
{
    private readonly Lock _gate = new();
    private readonly Queue<TaskCompletionSource> _waiting = new(); // under _gate
    private bool _taken; // under _gate

    /// <summary>Completes when the caller is in; it then leaves once. Called off: it is not in.</summary>
    public async Task EnterAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var turn = new TaskCompletionSource();
        lock (_gate)
        {
            if (!_taken)
            {
                _taken = true;
                return;
            }

            _waiting.Enqueue(turn);
        }

        await using var calledOff = cancellation.Register(() => turn.TrySetCanceled(cancellation));
        await turn.Task;
    }

    public void Leave()
    {
        while (true)
        {
            TaskCompletionSource next;
            lock (_gate)
            {
                if (!_waiting.TryDequeue(out next!))
                {
                    _taken = false;
                    return;
                }
            }

            if (next.TrySetResult())
                return;
        }
    }
}
