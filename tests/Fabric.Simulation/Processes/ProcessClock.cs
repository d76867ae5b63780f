using Fabric.Actors.Testing;

namespace Fabric.Simulation.Processes;

/// <summary>The world's clock as one process sees it. Timers fire inside the process: not at all when it is dead, late when it is frozen.</summary>
internal sealed class ProcessClock(SimProcess process, ManualTime world) : TimeProvider
{
    /// <summary>How far this process's wall clock is off.</summary>
    internal TimeSpan WallOffset { get; set; }

    public override long TimestampFrequency => world.TimestampFrequency;

    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    public override long GetTimestamp() => world.GetTimestamp();

    public override DateTimeOffset GetUtcNow() => world.GetUtcNow() + WallOffset;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => new ProcessTimer(process, world, callback, state, dueTime, period);

    private sealed class ProcessTimer : ITimer, IThreadPoolWorkItem
    {
        private readonly SimProcess _process;
        private readonly TimerCallback _callback;
        private readonly object? _state;
        private readonly ITimer _inner;
        private bool _disposed;

        internal ProcessTimer(SimProcess process, ManualTime world, TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            (_process, _callback, _state) = (process, callback, state);
            _inner = world.CreateTimer(static self => ((ProcessTimer)self!).Fire(), this, dueTime, period);
        }

        public bool Change(TimeSpan dueTime, TimeSpan period) => !_disposed && _inner.Change(dueTime, period);

        public void Dispose()
        {
            _disposed = true;
            _inner.Dispose();
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        public void Execute()
        {
            if (!_disposed)
                _callback(_state);
        }

        private void Fire()
        {
            if (_process.Dead)
                _inner.Dispose();
            else
                _process.Schedule(this);
        }
    }
}
