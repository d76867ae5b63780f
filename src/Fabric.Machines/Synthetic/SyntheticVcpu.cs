using Fabric.Core;

namespace Fabric.Machines.Synthetic;

/// <summary>
/// Lets the guest run, stand and end. In live mode a thread of its own runs it at the workload's rate; in manual mode the
/// caller of <see cref="Step"/> does, and nothing runs in between. The agent's calls come one at a time.
/// <para>
/// Live mode: the agent sets <see cref="_wanted"/> under the gate and waits until the thread has set <see cref="_now"/> to it, which it
/// does between two operations. The thread waits (for its next tick, or to be continued) on the same gate, so it hears at once.
/// </para>
/// </summary>
internal sealed class SyntheticVcpu
{
    internal enum Run
    {
        Standing,
        Running,
        Ended,
    }

    /// <summary>One heartbeat line per tick.</summary>
    internal static readonly TimeSpan TickPeriod = TimeSpan.FromMilliseconds(20);

    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LookUpPeriod = TimeSpan.FromMilliseconds(100);

    private readonly SyntheticGuest _guest;
    private readonly SyntheticMemory _memory;
    private readonly SyntheticConsole _console;
    private readonly TimeProvider _time;
    private readonly int _operationsPerTick;
    private readonly bool _live;
    private readonly object _gate = new();
    private readonly Func<bool> _interrupted;
    private volatile Run _wanted = Run.Standing;
    private volatile Run _now = Run.Standing;
    private volatile int _cpuPercent = 100;

    // The runner's own: operations left in the tick under way.
    private int _leftInTick;

    internal SyntheticVcpu(SyntheticGuest guest, SyntheticMemory memory, SyntheticConsole console, TimeProvider time, VmName name, int rate, bool live)
    {
        _guest = guest;
        _memory = memory;
        _console = console;
        _time = time;
        _live = live;
        _interrupted = () => _wanted != Run.Running;
        _operationsPerTick = Math.Max(1, (int)(rate * TickPeriod.TotalSeconds));
        _leftInTick = _operationsPerTick;
        if (live)
            new Thread(Loop) { Name = $"guest-{name}", IsBackground = true }.Start();
    }

    internal Run State => _now;

    /// <summary>Live mode: per cent of the workload's rate that the guest is left, from its next tick on. Any thread.</summary>
    internal int CpuPercent
    {
        get => _cpuPercent;
        set => _cpuPercent = value;
    }

    /// <summary>Blocks until the guest does as told: at most the length of one operation and the scheduler's mood.</summary>
    /// <exception cref="FabricException">machine-failed: it did not within 10 s.</exception>
    internal void Order(Run wanted)
    {
        lock (_gate)
        {
            if (_wanted == Run.Ended)
                return;
            _wanted = wanted;
            if (!_live)
                _now = wanted;
            Monitor.PulseAll(_gate);
        }

        // A guest that waits for a page waits elsewhere.
        _memory.WakeGuest();
        long begun = TimeProvider.System.GetTimestamp();
        lock (_gate)
        {
            while (_now != wanted)
            {
                var left = StopDeadline - TimeProvider.System.GetElapsedTime(begun);
                if (left <= TimeSpan.Zero || !Monitor.Wait(_gate, left))
                    throw new FabricException(ErrorCodes.MachineFailed, $"The synthetic guest did not become {wanted} within {StopDeadline.TotalSeconds} s.");
            }
        }
    }

    /// <summary>Manual mode: runs up to so many operations; returns how many, fewer when a missing page has to come first or the guest stands.</summary>
    internal int Step(int operations)
    {
        if (_live)
            throw new InvalidOperationException("This guest has a thread of its own.");
        int done = 0;
        while (done < operations && _now == Run.Running && _guest.TryOperate(out _))
        {
            done++;
            CountDown();
        }

        return done;
    }

    private void Loop()
    {
        long nextTick = _time.GetTimestamp();
        while (AwaitOrder())
        {
            long? missing = RunTick();
            if (missing is { } page)
                _memory.WaitForArrival(page, _interrupted, LookUpPeriod);
            else if (_wanted == Run.Running)
                nextTick = AwaitTick(nextTick);
        }
    }

    /// <summary>Stands while told to; false at the end. Says what the guest does now.</summary>
    private bool AwaitOrder()
    {
        if (_wanted == Run.Running && _now == Run.Running)
            return true;
        lock (_gate)
        {
            while (true)
            {
                if (_now != _wanted)
                {
                    _now = _wanted;
                    Monitor.PulseAll(_gate);
                }

                if (_now != Run.Standing)
                    return _now == Run.Running;
                Monitor.Wait(_gate, StopDeadline);
            }
        }
    }

    /// <summary>Operations until the tick is full (null), the guest is told something, or a page is missing (its number).</summary>
    private long? RunTick()
    {
        while (_wanted == Run.Running)
        {
            if (!_guest.TryOperate(out long missing))
                return missing;
            if (CountDown())
                return null;
        }

        return null;
    }

    private bool CountDown()
    {
        if (--_leftInTick > 0)
            return false;
        _leftInTick = Math.Max(1, (int)(_operationsPerTick * (long)_cpuPercent / 100));
        var registers = _guest.Registers;
        registers.Tick++;
        _console.Heartbeat(registers, _time.GetUtcNow());
        return true;
    }

    /// <summary>Waits for the time of the next tick; a guest that is late does not catch up.</summary>
    private long AwaitTick(long dueTimestamp)
    {
        long period = _time.GetTimestampTicks(TickPeriod);
        long now = _time.GetTimestamp();
        long next = Math.Max(dueTimestamp + period, now);
        var wait = _time.GetElapsedTime(now, next);
        lock (_gate)
        {
            if (wait > TimeSpan.Zero && _wanted == Run.Running)
                Monitor.Wait(_gate, wait);
        }

        return next;
    }
}
