namespace Fabric.Transfer;

/// <summary>
/// A token bucket that all migrations of a link share: bytes a second on average, with bursts of at most 1/20 s worth (at least one frame).
/// A sender pays after the fact: it reserves what it is about to send, may go into debt, and waits until the debt is paid, so a frame larger
/// than the bucket still passes. Urgent pages are charged and never wait. All members: any thread.
/// </summary>
public sealed class BandwidthCap
{
    private readonly Lock _gate = new();
    private readonly TimeProvider _time;
    private double _rate;
    private double _tokens;
    private long _last;

    /// <param name="bytesPerSecond">Above 0, or null for no cap.</param>
    public BandwidthCap(long? bytesPerSecond, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(time);
        _time = time;
        _last = time.GetTimestamp();
        Set(bytesPerSecond);
    }

    /// <summary>Changes the rate; a sender that waits already finishes its wait.</summary>
    public void Set(long? bytesPerSecond)
    {
        if (bytesPerSecond is { } rate)
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(rate, nameof(bytesPerSecond));
        lock (_gate)
        {
            _rate = bytesPerSecond ?? double.PositiveInfinity;
            _tokens = Math.Min(_tokens, Burst);
        }
    }

    private double Burst => Math.Max(_rate / 20, 64 * 1024);

    /// <summary>Takes <paramref name="bytes"/> from the bucket and returns how long the sender must wait before it sends them.</summary>
    public TimeSpan Reserve(long bytes)
    {
        lock (_gate)
        {
            if (double.IsPositiveInfinity(_rate))
                return TimeSpan.Zero;
            long now = _time.GetTimestamp();
            _tokens = Math.Min(Burst, _tokens + (_time.GetElapsedTime(_last, now).TotalSeconds * _rate));
            _last = now;
            TimeSpan wait = _tokens >= 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(-_tokens / _rate);
            _tokens -= bytes;
            return wait;
        }
    }

    /// <summary>Waits, in the calling thread, until nothing is owed; what is sent then is charged afterwards.</summary>
    /// <exception cref="OperationCanceledException">The transfer ended meanwhile.</exception>
    internal void AwaitTurn(CancellationToken ended)
    {
        while (Reserve(0) is var wait && wait > TimeSpan.Zero)
        {
            // Another sender may be quicker and owe anew: look again.
            ended.WaitHandle.WaitOne(wait);
            ended.ThrowIfCancellationRequested();
        }
    }

    /// <summary>Counts bytes that did not wait.</summary>
    public void Charge(long bytes) => Reserve(bytes);

    /// <summary>Reserves and waits, in the calling thread.</summary>
    /// <exception cref="OperationCanceledException">The transfer ended meanwhile.</exception>
    internal void Wait(long bytes, CancellationToken ended)
    {
        TimeSpan wait = Reserve(bytes);
        if (wait > TimeSpan.Zero)
            ended.WaitHandle.WaitOne(wait);
        ended.ThrowIfCancellationRequested();
    }
}
