using Fabric.Native;
using Fabric.Transfer.Channels;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// The connections of a pull as the <see cref="QueueGuard"/> sees them: one path, of which the urgent connection takes what it wants and bulk the rest. Whichever bulk sender comes by first when a look is due
/// looks for all of them. The channels outlive the senders' threads.
/// </summary>
internal sealed class GuardedPath(IReadOnlyList<DataChannel> bulk, DataChannel urgent, TimeProvider time)
{
    /// <summary>What is read ahead may stand in the way of a want by so much: half a piece at 1 Gb/s.</summary>
    private const int LeastAhead = 16 * 1024;

    /// <summary>Before anything is known of the path: the longest walk, once.</summary>
    private const int MostAhead = 256 * 1024;

    private readonly Lock _gate = new();
    private readonly QueueGuard _guard = new(bulk.Count, time);
    private readonly PathReading[] _readings = new PathReading[bulk.Count];
    private long _rate;
    private int _ahead = MostAhead;

    /// <summary>Bytes of the urgent connection that may be under way when more is read ahead: what the path holds, and a little. Any thread.</summary>
    public int AheadBytes => Volatile.Read(ref _ahead);

    /// <summary>Between two frames. Any thread; none waits for another.</summary>
    public void Look()
    {
        if (!_gate.TryEnter())
            return;
        try
        {
            if (_guard.IsDue)
                PaceAll();
        }
        finally
        {
            _gate.Exit();
        }
    }

    private void PaceAll()
    {
        var shortest = TimeSpan.MaxValue;
        for (int i = 0; i < bulk.Count; i++)
        {
            if (!bulk[i].TryReadPath(out _readings[i]))
                return;
            if (_readings[i].ShortestRoundTrip < shortest)
                shortest = _readings[i].ShortestRoundTrip;
        }

        long rate = _guard.Look(_readings, urgent.BytesSent);
        Volatile.Write(ref _ahead, (int)Math.Min(MostAhead, LeastAhead + (_guard.Total * shortest.TotalSeconds)));
        if (rate == _rate)
            return;
        _rate = rate;
        foreach (DataChannel channel in bulk)
        {
            channel.PaceAtMost(rate);
            channel.BurstBytes = QueueGuard.BurstAt(rate);
        }
    }
}
