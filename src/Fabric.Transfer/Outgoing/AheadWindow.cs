using Fabric.Native;
using Fabric.Transfer.Channels;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// How much of the read-ahead may be under way on the urgent connection. What goes ahead costs the guest nothing as long as it waits for nothing else; the next page that it waits for stands behind all that
/// was given to the kernel before. So the wire is kept busy and no more: what it carries in a round trip, and a little beyond. Where the round trip is long that little is not worth a thought. The
/// urgent thread's alone.
/// </summary>
internal sealed class AheadWindow(DataChannel urgent)
{
    /// <summary>Between two looks at what is under way.</summary>
    internal static readonly TimeSpan Pause = TimeSpan.FromMicroseconds(100);

    private const int LeastBytes = 16 * 1024;
    private static readonly TimeSpan LongTrip = TimeSpan.FromMilliseconds(2);

    /// <param name="bytesPerSecond">Of the wire, as far as it is known; 0: not.</param>
    public bool IsOpen(double bytesPerSecond)
    {
        if (!urgent.TryReadPath(out PathReading path) || path.ShortestRoundTrip >= LongTrip)
            return true;
        long underWay = urgent.BytesSent - path.DeliveredBytes;
        return underWay <= LeastBytes + (bytesPerSecond * (path.ShortestRoundTrip + Pause).TotalSeconds);
    }
}
