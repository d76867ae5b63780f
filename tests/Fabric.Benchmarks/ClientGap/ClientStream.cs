namespace Fabric.Benchmarks.ClientGap;

/// <summary>What goes over a stream.</summary>
public enum StreamKind
{
    /// <summary>The guest sends a number every millisecond; the client only listens.</summary>
    Ticks,

    /// <summary>The client sends a number every millisecond and gets it back; up to <see cref="GuestStream.WindowMost"/> are under way.</summary>
    Echo,

    /// <summary>The client sends a number, waits for it to come back, and sends the next one a millisecond later: one frame is under way.</summary>
    Ask,

    /// <summary>The guest downloads: a number goes to it, and a millisecond after the guest's TCP has acknowledged it the next one. One frame is under way.</summary>
    Download,
}

/// <summary>One TCP connection with a guest that lives through many moves, and how long nothing came out of the guest. Safe for several threads.</summary>
public abstract class ClientStream(StreamKind kind, TimeProvider time) : IDisposable
{
    private readonly Lock _gate = new();
    private long _received; // under _gate, as the next three
    private long _lastAt = time.GetTimestamp();
    private TimeSpan _longest;
    private string? _failure;

    public StreamKind Kind { get; } = kind;

    /// <summary>Numbers that came, or were acknowledged.</summary>
    public long Received
    {
        get
        {
            lock (_gate)
                return _received;
        }
    }

    /// <summary>Why the stream is over, or null while it goes on.</summary>
    public string? Failure
    {
        get
        {
            lock (_gate)
                return _failure;
        }
    }

    /// <summary>The longest time without a number since the last <see cref="Forget"/>, one that still lasts included.</summary>
    public TimeSpan LongestGap
    {
        get
        {
            lock (_gate)
            {
                var now = time.GetElapsedTime(_lastAt);
                return now > _longest ? now : _longest;
            }
        }
    }

    /// <summary>Begins a new measurement.</summary>
    public void Forget()
    {
        lock (_gate)
            (_longest, _lastAt) = (TimeSpan.Zero, time.GetTimestamp());
    }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);

    /// <summary>The guest has shown that it goes on.</summary>
    protected void Count(int numbers)
    {
        lock (_gate)
        {
            var gap = time.GetElapsedTime(_lastAt);
            if (gap > _longest)
                _longest = gap;
            _lastAt = time.GetTimestamp();
            _received += numbers;
        }
    }

    /// <summary>The first reason stays.</summary>
    protected void Fail(string reason)
    {
        lock (_gate)
            _failure ??= reason;
    }
}
