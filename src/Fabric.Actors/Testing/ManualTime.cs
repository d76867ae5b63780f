namespace Fabric.Actors.Testing;

/// <summary>
/// A clock that stands still until it is moved. Timers fire on the thread that moves it, in the order of their due times and,
/// at one instant, of their arming; the clock shows each timer's own due time while it fires. Any thread may read and arm;
/// one thread at a time moves.
/// </summary>
public sealed class ManualTime : TimeProvider
{
    /// <summary>Timers that one move may fire: more is a timer that re-arms itself for now.</summary>
    private const int MaxFiresPerMove = 10_000_000;

    private readonly Lock _gate = new();
    private readonly PriorityQueue<Arming, (long Due, long Order)> _armed = new();
    private readonly DateTimeOffset _start;
    private long _now;
    private long _order;
    private long _wallOffset;

    /// <param name="start">What the wall clock shows at first; by default the first of January 2026.</param>
    public ManualTime(DateTimeOffset? start = null) => _start = start ?? new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    /// <summary>Time passed since the beginning.</summary>
    public TimeSpan Elapsed => TimeSpan.FromTicks(Volatile.Read(ref _now));

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    public override long GetTimestamp() => Volatile.Read(ref _now);

    public override DateTimeOffset GetUtcNow() => _start.AddTicks(Volatile.Read(ref _now) + Volatile.Read(ref _wallOffset));

    /// <summary>The wall clock jumps (an operator, a bad time server); timers and timestamps do not notice.</summary>
    public void JumpWallClock(TimeSpan by) => Interlocked.Add(ref _wallOffset, by.Ticks);

    /// <summary>When the next timer fires, counted like <see cref="Elapsed"/>; null when none is armed.</summary>
    public TimeSpan? NextDue
    {
        get
        {
            lock (_gate)
            {
                DropStale();
                return _armed.TryPeek(out _, out var key) ? TimeSpan.FromTicks(key.Due) : null;
            }
        }
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        ArgumentNullException.ThrowIfNull(callback);
        var timer = new ManualTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>Moves the clock and fires what became due on the way.</summary>
    public void Advance(TimeSpan by)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(by, TimeSpan.Zero);
        long target = _now + by.Ticks;
        for (int fired = 0; FireNext(target); fired++)
        {
            if (fired == MaxFiresPerMove)
                throw new InvalidOperationException($"More than {MaxFiresPerMove} timers fired within {by}.");
        }

        Volatile.Write(ref _now, target);
    }

    /// <summary>As <see cref="Advance"/>, but lets other work of the process run after each timer.</summary>
    public async Task AdvanceAsync(TimeSpan by)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(by, TimeSpan.Zero);
        long target = _now + by.Ticks;
        await Task.Yield();
        for (int fired = 0; FireNext(target); fired++)
        {
            if (fired == MaxFiresPerMove)
                throw new InvalidOperationException($"More than {MaxFiresPerMove} timers fired within {by}.");
            await Task.Yield();
        }

        Volatile.Write(ref _now, target);
    }

    /// <summary>Moves the clock to the next timer that is due no later than <paramref name="limit"/> (as <see cref="Elapsed"/>) and fires it; false when there is none.</summary>
    public bool FireNext(TimeSpan limit) => FireNext(limit.Ticks);

    private bool FireNext(long limit)
    {
        ManualTimer timer;
        lock (_gate)
        {
            DropStale();
            if (!_armed.TryPeek(out var arming, out var key) || key.Due > limit)
                return false;
            _armed.Dequeue();
            timer = arming.Timer;
            Volatile.Write(ref _now, Math.Max(_now, key.Due));
            timer.Rearm(_now);
        }

        timer.Fire();
        return true;
    }

    private void DropStale()
    {
        while (_armed.TryPeek(out var arming, out _) && arming.Version != arming.Timer.Version)
            _armed.Dequeue();
    }

    private readonly record struct Arming(ManualTimer Timer, long Version);

    private sealed class ManualTimer(ManualTime time, TimerCallback callback, object? state) : ITimer
    {
        private TimeSpan _period = Timeout.InfiniteTimeSpan;
        private bool _disposed;

        /// <summary>Raised by each change, so that an older arming is known to be stale. Under the clock's lock.</summary>
        internal long Version { get; private set; }

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (time._gate)
            {
                if (_disposed)
                    return false;
                Version++;
                _period = period;
                if (dueTime != Timeout.InfiniteTimeSpan)
                    Arm(time._now + Math.Max(0, dueTime.Ticks));
                return true;
            }
        }

        public void Dispose()
        {
            lock (time._gate)
            {
                _disposed = true;
                Version++;
            }
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        internal void Rearm(long now)
        {
            if (_period > TimeSpan.Zero)
                Arm(now + _period.Ticks);
        }

        internal void Fire() => callback(state);

        private void Arm(long due) => time._armed.Enqueue(new Arming(this, Version), (due, time._order++));
    }
}
