namespace Fabric.Supervisor;

/// <summary>
/// The wall clock as deadlines need it: it never goes back. When the wall clock is set back (an operator, a bad time server, another node's clock that was ahead),
/// it goes on from where it was by the monotonic clock, so that a deadline of seconds is one of seconds. Any thread.
/// </summary>
internal sealed class SteadyClock(TimeProvider time)
{
    private readonly Lock _gate = new();
    private DateTimeOffset _last = time.GetUtcNow();
    private long _lastTicks = time.GetTimestamp();

    public DateTimeOffset Now
    {
        get
        {
            lock (_gate)
                return Read();
        }
    }

    /// <summary>Something happened at this time, by the clock of whoever wrote it down: it is not earlier now.</summary>
    public void NotBefore(DateTimeOffset at)
    {
        lock (_gate)
        {
            if (at > Read())
                _last = at;
        }
    }

    private DateTimeOffset Read()
    {
        long ticks = time.GetTimestamp();
        var steady = _last + time.GetElapsedTime(_lastTicks, ticks);
        var wall = time.GetUtcNow();
        (_last, _lastTicks) = (wall > steady ? wall : steady, ticks);
        return _last;
    }
}
