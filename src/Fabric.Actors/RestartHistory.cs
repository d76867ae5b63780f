namespace Fabric.Actors;

/// <summary>
/// How often an actor was restarted lately, and how long to wait before the next time: exponential back-off with equal jitter
/// (half of the step is fixed, half is drawn), so that actors that failed together do not come back together.
/// </summary>
internal sealed class RestartHistory(ActorOptions options, TimeProvider time, Random random)
{
    private readonly Queue<long> _restarts = new();

    /// <summary>Counts one more restart; false when <see cref="ActorOptions.MaxRestarts"/> within the window are used up.</summary>
    internal bool TryNext(out TimeSpan delay)
    {
        long now = time.GetTimestamp();
        while (_restarts.TryPeek(out long oldest) && time.GetElapsedTime(oldest, now) > options.RestartWindow)
            _restarts.Dequeue();
        delay = TimeSpan.Zero;
        if (_restarts.Count >= options.MaxRestarts)
            return false;
        double step = options.MinBackoff.Ticks * Math.Pow(2, Math.Min(_restarts.Count, 30));
        double bounded = Math.Min(step, options.MaxBackoff.Ticks);
        delay = TimeSpan.FromTicks((long)(bounded / 2 + bounded / 2 * random.NextDouble()));
        _restarts.Enqueue(now);
        return true;
    }

    internal int Count => _restarts.Count;
}
