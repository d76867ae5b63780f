using System.Numerics;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// How long the guest's network faults took, from the moment the trap reported the page to the moment it was installed. A histogram of powers of two in
/// microseconds, each split in eight (so a figure is off by at most 1/8); nothing is allocated. Any thread.
/// </summary>
internal sealed class FaultLatency(TimeProvider time)
{
    private const int Split = 8;
    private const int MostOpen = 1024;

    private readonly Lock _gate = new();
    private readonly long[] _buckets = new long[40 * Split];
    private readonly long[] _pages = new long[MostOpen];
    private readonly long[] _since = new long[MostOpen];
    private int _open;
    private long _count;

    /// <summary>The guest waits for the page. Beyond 1024 open ones it is not measured.</summary>
    public void Begin(long page)
    {
        lock (_gate)
        {
            if (_open == MostOpen)
                return;
            _pages[_open] = page;
            _since[_open++] = time.GetTimestamp();
        }
    }

    public void End(long page)
    {
        lock (_gate)
        {
            int index = Array.IndexOf(_pages, page, 0, _open);
            if (index < 0)
                return;
            long micros = (long)time.GetElapsedTime(_since[index]).TotalMicroseconds;
            _open--;
            _pages[index] = _pages[_open];
            _since[index] = _since[_open];
            _buckets[Bucket(micros)]++;
            _count++;
        }
    }

    /// <summary>Microseconds that a share of the faults (0 to 1) did not exceed; null when none was measured.</summary>
    public double? Quantile(double share)
    {
        lock (_gate)
        {
            if (_count == 0)
                return null;
            long rank = (long)Math.Ceiling(share * _count);
            for (int i = 0; i < _buckets.Length; i++)
            {
                rank -= _buckets[i];
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
