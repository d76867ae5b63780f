using Fabric.Actors;
using Fabric.Actors.Testing;

namespace Fabric.Simulation.Processes;

/// <summary>
/// One life of one process on the world's single thread: everything that runs in it goes through its dispatcher, so killing it is dropping what it
/// would do next, and freezing it is holding that back. A later life is another object.
/// </summary>
internal sealed class SimProcess : IDispatcher
{
    private readonly DeterministicDispatcher _loop;
    private readonly Queue<IThreadPoolWorkItem> _held = new();
    private readonly Action<string, Exception> _broke;

    /// <param name="name">For the trace.</param>
    /// <param name="loop">The thread.</param>
    /// <param name="broke">Hears of an exception that nobody in the process handled.</param>
    internal SimProcess(string name, DeterministicDispatcher loop, Action<string, Exception> broke)
    {
        (Name, _loop, _broke) = (name, loop, broke);
        Context = new DispatcherContext(this);
        Clock = new ProcessClock(this, loop.Time);
    }

    internal string Name { get; }

    internal bool Dead { get; private set; }

    internal bool Frozen { get; private set; }

    /// <summary>What the process sees: the world's monotonic clock, a wall clock that may be off, timers that are late after a freeze.</summary>
    internal ProcessClock Clock { get; }

    /// <summary>Brings the continuations of what was begun in the process back into it.</summary>
    internal DispatcherContext Context { get; }

    public void Schedule(IThreadPoolWorkItem item)
    {
        if (!Dead)
            _loop.Schedule(new Turn(this, item));
    }

    internal void Kill()
    {
        Dead = true;
        _held.Clear();
    }

    internal void Freeze() => Frozen = true;

    internal void Thaw()
    {
        Frozen = false;
        while (_held.TryDequeue(out var item))
            _loop.Schedule(item);
    }

    /// <summary>Runs something in this process, soon.</summary>
    internal void Post(Action action) => Schedule(new Work(this, action));

    /// <summary>Begins work in this process; a failure that it does not handle is reported to the world.</summary>
    internal void Begin(Func<Task> work) => Post(() => _ = RunAsync(work));

    private async Task RunAsync(Func<Task> work)
    {
        try
        {
            await work();
        }
#pragma warning disable CA1031 // Whatever it is, it is a finding.
        catch (Exception e)
#pragma warning restore CA1031
        {
            if (!Dead)
                _broke(Name, e);
        }
    }

    private sealed class Turn(SimProcess process, IThreadPoolWorkItem item) : IThreadPoolWorkItem
    {
        public void Execute()
        {
            if (process.Dead)
                return;
            if (process.Frozen)
                process._held.Enqueue(this);
            else
                item.Execute();
        }
    }

    private sealed class Work(SimProcess process, Action action) : IThreadPoolWorkItem
    {
        public void Execute() => process.Context.Enter(action);
    }
}
