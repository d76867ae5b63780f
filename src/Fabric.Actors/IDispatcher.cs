namespace Fabric.Actors;

/// <summary>
/// Where turns of actors run. The thread pool in production; one thread that chooses by a seed in a simulation
/// (<see cref="Testing.DeterministicDispatcher"/>).
/// </summary>
public interface IDispatcher
{
    /// <summary>Runs the item once, soon, never inside this call. Any thread; never blocks.</summary>
    void Schedule(IThreadPoolWorkItem item);
}

/// <summary>Turns run on the process's thread pool, so a handler must never block: it awaits.</summary>
public sealed class ThreadPoolDispatcher : IDispatcher
{
    public void Schedule(IThreadPoolWorkItem item) => ThreadPool.UnsafeQueueUserWorkItem(item, preferLocal: false);
}

/// <summary>
/// For work that runs beside an actor (<see cref="IActorContext{TMessage}.PipeToSelf{TResult}"/>): every continuation is an
/// item of the dispatcher of its own. On the thread pool that is what would happen anyway; under a deterministic
/// dispatcher it keeps the work on the one thread.
/// </summary>
internal sealed class DispatcherContext(IDispatcher dispatcher) : SynchronizationContext
{
    public override void Post(SendOrPostCallback d, object? state) => dispatcher.Schedule(new Callback(this, d, state));

    public override void Send(SendOrPostCallback d, object? state) => throw new NotSupportedException("Work on a dispatcher is posted, never sent: a send could wait for itself.");

    public override SynchronizationContext CreateCopy() => this;

    /// <summary>Runs <paramref name="action"/> with this context as the current one.</summary>
    internal void Enter(Action action)
    {
        var outer = Current;
        SetSynchronizationContext(this);
        try
        {
            action();
        }
        finally
        {
            SetSynchronizationContext(outer);
        }
    }

    private sealed class Callback(DispatcherContext context, SendOrPostCallback callback, object? state) : IThreadPoolWorkItem
    {
        public void Execute() => context.Enter(() => callback(state));
    }
}
