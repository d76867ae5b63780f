using Fabric.Core;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// How much the bulk senders take at a time while the guest runs at the destination. A page that bulk has claimed cannot be hurried: a guest that touches it waits for the frame that it is in and for all
/// that was sent before. So a frame has as many pages as all senders get through in half a millisecond, and no more, whatever holds them up: the wire, or packing where the wire would not. What the kernel may hold
/// back behind it is as long as the wire takes as much time for. Where the largest frame passes in less, the largest. Both rates are measured as it goes, in windows of some milliseconds; until the first
/// is over frames are small. Any thread.
/// </summary>
internal sealed class PullPace
{
    /// <summary>A frame's time.</summary>
    internal static readonly TimeSpan Slice = TimeSpan.FromMicroseconds(500);

    /// <summary>Fewer would cost more in frames than they save in waiting.</summary>
    internal const int LeastPages = 8;

    private const int LeastUnsentBytes = 64 * 1024;
    private static readonly TimeSpan Window = TimeSpan.FromMilliseconds(5);

    private readonly Lock _gate = new();
    private readonly TimeProvider _time;
    private readonly int _mostPages;
    private readonly int _mostUnsent;
    private readonly int _connections;
    private long _bytes;
    private long _sent; // pages
    private long _began;
    private int _pages;
    private int _unsent;

    /// <param name="settings">The bounds: <see cref="TransferSettings.PullFramePages"/> and <see cref="TransferSettings.PullUnsentBytes"/>.</param>
    /// <param name="connections">How many share the wire.</param>
    /// <param name="time">What the windows are measured with.</param>
    public PullPace(TransferSettings settings, int connections, TimeProvider time)
    {
        _time = time;
        _connections = connections;
        _mostPages = Math.Clamp(settings.PullFramePages, 1, Limits.PagesPerFrame);
        _mostUnsent = settings.PullUnsentBytes;
        _pages = Math.Min(LeastPages, _mostPages);
        _unsent = Math.Min(LeastUnsentBytes, _mostUnsent);
        _began = time.GetTimestamp();
    }

    /// <summary>Pages that a sender claims at a time.</summary>
    public int FramePages => Volatile.Read(ref _pages);

    /// <summary>Bytes that the kernel may hold back on each connection.</summary>
    public int UnsentBytes => Volatile.Read(ref _unsent);

    /// <summary>A frame has left, on whatever connection.</summary>
    public void Sent(long bytes, int pages)
    {
        lock (_gate)
        {
            _bytes += bytes;
            _sent += pages;
            long now = _time.GetTimestamp();
            double seconds = _time.GetElapsedTime(_began, now).TotalSeconds;
            if (seconds < Window.TotalSeconds)
                return;
            double slices = seconds / Slice.TotalSeconds;
            _pages = (int)Math.Clamp(_sent / slices, Math.Min(LeastPages, _mostPages), _mostPages);
            _unsent = (int)Math.Clamp(_bytes / slices / _connections, Math.Min(LeastUnsentBytes, _mostUnsent), _mostUnsent);
            (_bytes, _sent) = (0, 0);
            _began = now;
        }
    }
}
