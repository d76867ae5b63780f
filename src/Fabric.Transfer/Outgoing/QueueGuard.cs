using Fabric.Native;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// Keeps the bulk connections of a pull from filling the queues on their way, in which the pages that the guest waits for would stand behind them. TCP, by whatever algorithm, keeps a path busy by having
/// more under way than it holds; at 1 Gb/s that is two milliseconds of queue, sixty times what a page takes. So bulk is paced at what the path was seen to deliver, less what the urgent connection takes of
/// it: when round trips become longer than the shortest ones, the queue is drained, bulk goes on at <see cref="KeptShare"/> of the path, and from there slowly faster until there is a queue again. A queue that
/// does not go away is other people's: then nothing is held back for a while, since politeness would only leave them more. And where some round trips are long and others short, or are long on one
/// connection and not on the other, it is no queue, in which all would stand: there is a want of processors at either end, and to send slower would help nobody. One thread at a time.
/// </summary>
/// <remarks>After the delay-based schemes (Vegas, Brakmo and Peterson 1995) and BBR's drain phase (Cardwell et al. 2016); unlike them it only ever lowers the rate of an algorithm beneath it.</remarks>
internal sealed class QueueGuard
{
    /// <summary>Between two looks.</summary>
    internal static readonly TimeSpan Window = TimeSpan.FromMilliseconds(5);

    /// <summary>Of the path, once there is no queue any more.</summary>
    internal const double KeptShare = 0.98;

    /// <summary>While it is drained, at the least; otherwise what takes the queue away by the next look but one.</summary>
    private const double DrainShare = 0.75;
    private const double DrainFactor = 1.5;

    /// <summary>A path becomes narrower by no more than this at once: processors that were busy elsewhere make it seem so. One that is narrower shows by a queue that does not shrink.</summary>
    private const double LeastLeft = 0.9;

    /// <summary>Of the path, however much the urgent connection takes.</summary>
    private const double LeastShare = 0.1;

    /// <summary>Rates are averages over about as long: in a few milliseconds a burst more or less is a fifth of what passes, and of what is wanted all or nothing.</summary>
    private const double BlendSeconds = 0.03;

    /// <summary>A round trip that is longer than the shortest by this much, by an eighth of it, and by what <see cref="BurstBytes"/> take, has stood in a queue.</summary>
    private const double QueueSeconds = 0.0003;

    /// <summary>As <see cref="QueueSeconds"/>, on a path that carries more than <see cref="FastRate"/>: there acknowledgements wait as long for processors, on all connections alike.</summary>
    private const double FastQueueSeconds = 0.001;

    /// <summary>Bytes a second.</summary>
    private const double FastRate = 5e8;

    /// <summary>
    /// What the kernel sends at a time of a connection that is held back: with the 64 KiB that it would send by itself each connection has a queue of its own making. On a fast path so much takes no time, and
    /// smaller bursts only take processors.
    /// </summary>
    private const int BurstBytes = 16 * 1024;

    private const double LeastGrowth = 0.001;
    private const double MostGrowth = 0.16;
    private const int GrowthWindows = 10;

    /// <summary>Bytes a second that no path carries: a limit that has grown to it is none.</summary>
    private const double MostRate = 1e11;

    /// <summary>Windows of draining in which the queue does not become shorter: it is somebody else's.</summary>
    private const int Patience = 8;

    private const double ShrinkShare = 0.95;

    /// <summary>Of the time that round trips seem to stand in a queue, this much they may differ by: in a queue on the wire by a tenth to a third, for want of processors by nearly all of it and more.</summary>
    private const double JitterShare = 0.5;

    private static readonly TimeSpan Rest = TimeSpan.FromSeconds(1);

    private readonly TimeProvider _time;
    private readonly long[] _delivered; // by each connection, at the last look
    private readonly double[] _rates; // of each connection, bytes a second, between the last two looks
    private long _urgentSent;
    private long _began;
    private bool _looked;
    private double _total; // bytes a second of all connections, smoothed
    private double _urgent; // of these
    private double _capacity; // the path's, in bytes a second; 0: not held back
    private double _share;
    private double _growth = LeastGrowth;
    private bool _stands; // a queue, at the last look
    private bool _draining;
    private int _vain; // windows of draining, the last ones, in which the queue did not shrink
    private double _shortest; // seconds, of the queue that is being drained
    private int _calm;
    private long? _rested;

    public QueueGuard(int connections, TimeProvider time)
    {
        (_delivered, _rates) = (new long[connections], new double[connections]);
        _time = time;
        _began = time.GetTimestamp();
    }

    /// <summary>What a bulk connection that is paced at <paramref name="rate"/> is to send at a time; 0: as much as the kernel likes.</summary>
    public static int BurstAt(long rate) => rate > 0 && rate < FastRate / 2 ? BurstBytes : 0;

    /// <summary>What all connections carry, in bytes a second; 0 before it is known.</summary>
    public double Total => _total;

    public bool IsDue => _time.GetElapsedTime(_began) >= Window;

    /// <summary>A look at the path, when it is due. Returns what each bulk connection is to be paced at from now on, in bytes a second, 0 for no limit.</summary>
    /// <param name="bulk">What the kernel says of each bulk connection, always in the same order.</param>
    /// <param name="urgentSent">Bytes, all in all: what is sent there is on the path at once.</param>
    public long Look(ReadOnlySpan<PathReading> bulk, long urgentSent)
    {
        long now = _time.GetTimestamp();
        double seconds = _time.GetElapsedTime(_began, now).TotalSeconds;
        double delivered = Delivered(bulk, seconds);
        double queue = Standing(bulk, delivered);
        double urgent = (urgentSent - _urgentSent) / seconds;
        (_began, _urgentSent) = (now, urgentSent);
        if (!_looked || delivered <= 0 || IsResting(now))
        {
            _looked = true;
            return Rate();
        }

        double total = delivered + urgent;
        double blend = _total == 0 ? 1 : seconds / (seconds + BlendSeconds);
        _total += blend * (total - _total);
        _urgent += blend * (urgent - _urgent);
        if (queue > 0)
            Drain(total, queue, now);
        else
            Grow();
        return Rate();
    }

    // Bytes a second of all bulk connections together, and of each in _rates.
    private double Delivered(ReadOnlySpan<PathReading> bulk, double seconds)
    {
        double all = 0;
        for (int i = 0; i < bulk.Length; i++)
        {
            _rates[i] = Math.Max(0, (bulk[i].DeliveredBytes - _delivered[i]) / seconds);
            _delivered[i] = bulk[i].DeliveredBytes;
            all += _rates[i];
        }

        return all;
    }

    // Seconds that all that is sent stands in a queue, or 0.
    private double Standing(ReadOnlySpan<PathReading> bulk, double delivered)
    {
        if (delivered <= 0)
            return 0;
        double least = Math.Max(delivered, _total) > FastRate ? FastQueueSeconds : QueueSeconds;
        double queue = double.PositiveInfinity;
        for (int i = 0; i < bulk.Length; i++)
        {
            if (_rates[i] <= 0)
                continue;
            PathReading path = bulk[i];
            double waits = (path.RoundTrip - path.ShortestRoundTrip).TotalSeconds;
            bool stands = waits > Math.Max(least, path.ShortestRoundTrip.TotalSeconds / 8) + (BurstBytes / _rates[i])
                && path.RoundTripDeviation.TotalSeconds < JitterShare * waits;
            queue = Math.Min(queue, stands ? waits : 0);
        }

        return queue;
    }

    private long Rate() => _capacity == 0 ? 0 : (long)(Math.Max(LeastShare * _capacity, (_share * _capacity) - _urgent) / _delivered.Length);

    private bool IsResting(long now)
    {
        if (_rested is not { } since || _time.GetElapsedTime(since, now) >= Rest)
            _rested = null;
        return _rested is not null;
    }

    // While there is a queue what is delivered is all that the path gives: from one look that finds it to the next. Once less is sent the queue tells more: if it does not become shorter the path gives less
    // than was thought.
    private void Drain(double total, double queue, long now)
    {
        if (!_draining && !_stands)
        {
            (_stands, _total) = (true, total);
            return;
        }

        bool shrinks = !_draining || queue < ShrinkShare * _shortest;
        if (!_draining)
            _capacity = Math.Max(_total, LeastLeft * _capacity);
        else if (!shrinks)
            _capacity = (_capacity + Math.Min(_capacity, total)) / 2;
        (_growth, _calm, _share) = (LeastGrowth, 0, Math.Max(DrainShare, 1 - (DrainFactor * queue / Window.TotalSeconds)));
        _shortest = shrinks ? queue : _shortest;
        _vain = shrinks ? 0 : _vain + 1;
        _draining = true;
        if (_vain < Patience)
            return;
        (_capacity, _draining, _rested) = (0, false, now);
    }

    private void Grow()
    {
        _stands = false;
        if (_capacity == 0)
            return;
        if (_draining)
        {
            (_draining, _share) = (false, KeptShare);
            _total = KeptShare * _capacity;
            return;
        }

        // A path that has become wider is found soon.
        if (++_calm % GrowthWindows == 0)
            _growth = Math.Min(2 * _growth, MostGrowth);
        _share *= 1 + _growth;
        if (_share * _capacity > MostRate)
            _capacity = 0;
    }
}
