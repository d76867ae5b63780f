namespace Fabric.Actors.Testing;

/// <summary>
/// Runs a whole system on one thread, so that one seed gives one run. Which of the runnable items is next is drawn from the seed, so
/// different seeds try different interleavings; the clock moves only when nothing is runnable.
/// <para>
/// Everything that takes part must stay on this thread: the system's actors and the scenario given to <see cref="Run"/> do by
/// themselves; code that leaves it (<c>Task.Run</c>, <c>ConfigureAwait(false)</c> on something that really waits, a real socket) is caught when it
/// comes back from another thread, and the run fails with its stack.
/// </para>
/// </summary>
public sealed class DeterministicDispatcher : IDispatcher
{
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly Random _random;
    private readonly List<IThreadPoolWorkItem> _runnable = [];
    private readonly DispatcherContext _context;
    private volatile string? _foreign;

    /// <summary>Belongs to the thread that makes it.</summary>
    /// <param name="seed">Of the order in which items run.</param>
    /// <param name="time">The clock that this dispatcher moves.</param>
    public DeterministicDispatcher(int seed, ManualTime time)
    {
        ArgumentNullException.ThrowIfNull(time);
        Time = time;
        _random = new Random(seed);
        _context = new DispatcherContext(this);
    }

    public ManualTime Time { get; }

    /// <summary>Items run so far.</summary>
    public long Steps { get; private set; }

    /// <summary>Items that one call of <see cref="RunUntilIdle"/> may run: more is a system that never comes to rest.</summary>
    public long MaxSteps { get; init; } = 50_000_000;

    /// <summary>A digest of every choice made so far: equal for equal runs, and with near certainty only for them (FNV-1a, 64 bits).</summary>
    public ulong Fingerprint { get; private set; } = 14695981039346656037;

    public void Schedule(IThreadPoolWorkItem item)
    {
        ArgumentNullException.ThrowIfNull(item);
        if (Environment.CurrentManagedThreadId != _thread)
        {
            _foreign ??= Environment.StackTrace;
            return;
        }

        _runnable.Add(item);
    }

    /// <summary>Runs items until none is runnable. The clock stands still.</summary>
    /// <exception cref="InvalidOperationException">Work came from another thread, or <see cref="MaxSteps"/> were not enough.</exception>
    public void RunUntilIdle()
    {
        for (long steps = 0; RunNext(); steps++)
        {
            if (steps == MaxSteps)
                throw new InvalidOperationException($"The system did not come to rest within {MaxSteps} steps.");
        }
    }

    /// <summary>Runs items and, whenever there is none, the next timer, until this much time has passed on the clock.</summary>
    public void RunFor(TimeSpan span)
    {
        var end = Time.Elapsed + span;
        do
            RunUntilIdle();
        while (Time.FireNext(end));
        Time.Advance(end - Time.Elapsed);
        RunUntilIdle();
    }

    /// <summary>
    /// Runs a scenario on this thread beside the system, moving the clock as needed, until it ends. Its exception is thrown here.
    /// </summary>
    /// <exception cref="TimeoutException">The scenario did not end within <paramref name="most"/> on the clock, or nothing is left that could end it.</exception>
    public void Run(Func<Task> scenario, TimeSpan most)
    {
        ArgumentNullException.ThrowIfNull(scenario);
        var end = Time.Elapsed + most;
        Task? task = null;
        _context.Enter(() => task = scenario());
        RunUntilIdle();
        while (!task!.IsCompleted)
        {
            if (!Time.FireNext(end))
                throw new TimeoutException($"The scenario did not end within {most}: {(Time.NextDue is null ? "nothing is left that could wake it" : "time is up")}.");
            RunUntilIdle();
        }

#pragma warning disable VSTHRD002 // The task has completed; this throws its exception, if any.
        task.GetAwaiter().GetResult();
#pragma warning restore VSTHRD002
    }

    private bool RunNext()
    {
        if (_foreign is { } stack)
            throw new InvalidOperationException($"Work came from another thread; the run cannot be repeated. It came from:{Environment.NewLine}{stack}");
        if (Environment.CurrentManagedThreadId != _thread)
            throw new InvalidOperationException("A deterministic dispatcher is driven by the thread that made it.");
        if (_runnable.Count == 0)
            return false;
#pragma warning disable CA5394 // An order to try, not a secret.
        int choice = _random.Next(_runnable.Count);
#pragma warning restore CA5394
        Fingerprint = (Fingerprint ^ (uint)choice ^ ((ulong)(uint)_runnable.Count << 32)) * 1099511628211;
        Steps++;
        var item = _runnable[choice];
        _runnable[choice] = _runnable[^1];
        _runnable.RemoveAt(_runnable.Count - 1);
        item.Execute();
        return true;
    }
}
