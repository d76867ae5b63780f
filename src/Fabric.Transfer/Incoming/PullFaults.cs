using System.Numerics;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// The guest's faults of a whole pull, as the post-copy literature counts them (Hines et al., OSR'09): network faults, whose page had to be asked for, and minor ones, whose page was on its way
/// already or needs none of the wire; and how long the guest stood at them, from the moment the trap reported a page to the moment it was installed, a broken link included.
/// Durations are kept in a histogram of powers of two in microseconds, each split in eight (so a quantile is off by at most 1/8); nothing is allocated. Any thread.
/// </summary>
internal sealed class PullFaults(TimeProvider time)
{
    private const int Split = 8;
    private const int MostOpen = 1024;

    private readonly Lock _gate = new();
    private readonly long[] _all = new long[40 * Split];
    private readonly long[] _asked = new long[40 * Split]; // those that had to be asked for
    private readonly long[] _pages = new long[MostOpen];
    private readonly long[] _since = new long[MostOpen];
    private int _open;
    private long _network;
    private long _minor;
    private long _stalled; // ticks of 100 ns

    public long Network => Volatile.Read(ref _network);

    public long Minor => Volatile.Read(ref _minor);

    public TimeSpan Stalled => TimeSpan.FromTicks(Volatile.Read(ref _stalled));

    /// <summary>
    /// The guest waits for the page. A page that is open already, since the stream broke before it came, waits on. Beyond 1024 open ones none is counted.
    /// </summary>
    public void Begin(long page)
    {
        lock (_gate)
        {
            if (_open == MostOpen || Array.IndexOf(_pages, page, 0, _open) >= 0)
                return;
            _pages[_open] = page;
            _since[_open++] = time.GetTimestamp();
        }
    }

    /// <summary>The page is there. <paramref name="asked"/>: it came because the guest waited for it. False: no fault on it was open, and none is counted.</summary>
    public bool End(long page, bool asked)
    {
        lock (_gate)
        {
            int index = Array.IndexOf(_pages, page, 0, _open);
            if (index < 0)
                return false;
            Interlocked.Increment(ref asked ? ref _network : ref _minor);
            var stall = time.GetElapsedTime(_since[index]);
            _open--;
            _pages[index] = _pages[_open];
            _since[index] = _since[_open];
            int bucket = Bucket((long)stall.TotalMicroseconds);
            _all[bucket]++;
            if (asked)
                _asked[bucket]++;
            _stalled += stall.Ticks;
            return true;
        }
    }

    /// <summary>A fault that was answered at once, without the source.</summary>
    public void CountMinor() => Interlocked.Increment(ref _minor);

    /// <summary>Microseconds that a share of the stalls (0 to 1) did not exceed; null when none was measured.</summary>
    public double? Quantile(double share) => Quantile(_all, share);

    /// <summary>The same of the network faults alone: how long it takes to bring a page that is asked for.</summary>
    public double? ServiceQuantile(double share) => Quantile(_asked, share);

    private double? Quantile(long[] buckets, double share)
    {
        lock (_gate)
        {
            long measured = buckets.Sum();
            if (measured == 0)
                return null;
            long rank = (long)Math.Ceiling(share * measured);
            for (int i = 0; i < buckets.Length; i++)
            {
                rank -= buckets[i];
                if (rank <= 0)
                    return Middle(i);
            }

            return null;
        }
    }

    private static int Bucket(long micros)
    {
        long value = Math.Clamp(micros, 0, (1L << 38) - 1) + Split;
        int power = BitOperations.Log2((ulong)value) - 3;
        return (power * Split) + (int)((value >> power) - Split);
    }

    private static double Middle(int bucket)
    {
        int power = bucket / Split;
        double low = (double)((long)(bucket % Split) + Split) * (1L << power);
        return low + ((1L << power) / 2.0) - Split;
    }
}
