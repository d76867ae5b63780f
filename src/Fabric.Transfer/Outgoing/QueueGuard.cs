using Fabric.Native;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// Keeps a bulk connection of a pull from filling the queues on its way, in which the pages that the guest waits for would stand behind it. TCP, by whatever algorithm, keeps a path busy by having more
/// under way than it holds; at 1 Gb/s that is two milliseconds of queue, sixty times what a page takes. So the connection is paced a little below what the path was seen to deliver: when its round trips
/// become longer than the shortest ones, it drains the queue, goes on at <see cref="KeptShare"/> of what was delivered then, and from there slowly faster until there is a queue again. A queue that
/// does not go away is other people's: then nothing is held back for a while, since politeness would only leave them more. And where some round trips are long and others short it is no queue, in which all
/// would stand: there is a want of processors at either end, and to send slower would help nobody. One thread.
/// </summary>
/// <remarks>After the delay-based schemes (Vegas, Brakmo and Peterson 1995) and BBR's drain phase (Cardwell et al. 2016); unlike them it only ever lowers the rate of an algorithm beneath it.</remarks>
internal sealed class QueueGuard(TimeProvider time)
{
    /// <summary>Between two looks.</summary>
    internal static readonly TimeSpan Window = TimeSpan.FromMilliseconds(5);

    /// <summary>Of what was delivered while there was a queue.</summary>
    internal const double KeptShare = 0.95;

    private const double DrainShare = 0.75;

    /// <summary>What is delivered is this close to the rate that was set: it is that rate, not the path's.</summary>
    private const double HeldBackShare = 0.1;

    /// <summary>A round trip that is longer than the shortest by this much, by an eighth of it, and by what <see cref="BurstBytes"/> take, has stood in a queue.</summary>
    private const double QueueSeconds = 0.001;
    private const int BurstBytes = 16 * 1024;

    private const double LeastGrowth = 0.0025;
    private const double MostGrowth = 0.16;
    private const int GrowthWindows = 20;

    /// <summary>Bytes a second that no path carries: a limit that has grown to it is none.</summary>
    private const double MostRate = 1e11;

    /// <summary>Windows of draining in which the queue does not become shorter: it is somebody else's.</summary>
    private const int Patience = 8;

    private const double ShrinkShare = 0.95;

    /// <summary>Of the time that round trips seem to stand in a queue, this much they may differ by: in a queue on the wire by a tenth to a third, for want of processors by nearly all of it and more.</summary>
    private const double JitterShare = 0.5;

    private static readonly TimeSpan Rest = TimeSpan.FromSeconds(1);

    private long _began = time.GetTimestamp();
    private long _delivered = -1;
    private double _capacity; // bytes a second
    private double _rate; // 0: not held back
    private double _growth = LeastGrowth;
    private bool _draining;
    private int _vain; // windows of draining, the last ones, in which the queue did not shrink
    private double _shortest; // seconds, of the queue that is being drained
    private int _calm;
    private long? _rested;

    public bool IsDue => time.GetElapsedTime(_began) >= Window;

    /// <summary>A look at the path, when it is due. Returns the rate to pace at from now on, in bytes a second, 0 for none of ours; null where it stays.</summary>
    public long? Look(PathReading path)
    {
        long now = time.GetTimestamp();
        double seconds = time.GetElapsedTime(_began, now).TotalSeconds;
        double delivered = (path.DeliveredBytes - _delivered) / seconds;
        bool first = _delivered < 0;
        (_began, _delivered) = (now, path.DeliveredBytes);
        if (first || delivered <= 0 || IsResting(now))
            return null;
        double before = _rate;
        double queue = (path.RoundTrip - path.ShortestRoundTrip).TotalSeconds;
        bool stands = queue > Math.Max(QueueSeconds, path.ShortestRoundTrip.TotalSeconds / 8) + (BurstBytes / delivered)
            && path.RoundTripDeviation.TotalSeconds < JitterShare * queue;
        if (stands)
            Drain(delivered, queue, now);
        else
            Grow();
        return _rate == before ? null : (long)_rate;
    }

    private bool IsResting(long now)
    {
        if (_rested is not { } since || time.GetElapsedTime(since, now) >= Rest)
            _rested = null;
        return _rested is not null;
    }

    // While there is a queue what is delivered is all that the path gives to this connection; unless the queue has just gone, of which the smoothed round trips tell late.
    private void Drain(double delivered, double queue, long now)
    {
        bool heldBack = _draining && Math.Abs(delivered - _rate) <= HeldBackShare * _rate;
        if (!heldBack)
            _capacity = delivered;
        (_growth, _calm) = (LeastGrowth, 0);
        _rate = DrainShare * _capacity;
        bool shrinks = !_draining || queue < ShrinkShare * _shortest;
        _shortest = shrinks ? queue : _shortest;
        _vain = shrinks ? 0 : _vain + 1;
        _draining = true;
        if (_vain < Patience)
            return;
        (_rate, _draining, _rested) = (0, false, now);
    }

    private void Grow()
    {
        if (_draining)
        {
            _draining = false;
            _rate = KeptShare * _capacity;
            return;
        }

        if (_rate == 0)
            return;
        // A path that has become wider is found soon.
        if (++_calm % GrowthWindows == 0)
            _growth = Math.Min(2 * _growth, MostGrowth);
        _rate *= 1 + _growth;
        if (_rate > MostRate)
            _rate = 0;
    }
}
