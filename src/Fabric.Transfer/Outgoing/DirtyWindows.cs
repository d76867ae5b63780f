using Fabric.Core;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// What dirty scans say of the guest's habits, in windows of time that do not follow the rounds: a round of a minute counts a page once, however often it is
/// written, and a round of a millisecond hardly sees the guest. Scans are added as they come; a window ends with the first one after <see cref="Least"/>.
/// The flow's; not shared.
/// </summary>
internal sealed class DirtyWindows(long pages, TimeProvider time)
{
    /// <summary>Shortest window. Each scan makes the guest pay again for its next write to every page that was found.</summary>
    internal static readonly TimeSpan Least = TimeSpan.FromMilliseconds(100);

    /// <summary>Scans may take 1/50 of this end's time.</summary>
    private const int ScanShare = 50;

    /// <summary>Once 1/10: behind the first window.</summary>
    private const int FirstScanShare = 10;

    /// <summary>The faults that scans cause may take 1/20 of the guest's time, at <see cref="FaultCost"/> each, as long as there is a look every <see cref="LeastOften"/>.</summary>
    private const int FaultShare = 20;
    private static readonly TimeSpan FaultCost = TimeSpan.FromMicroseconds(2);
    private static readonly TimeSpan LeastOften = TimeSpan.FromSeconds(1);

    private PageBitmap _current = new(pages);
    private PageBitmap _previous = new(pages);
    private bool _hasPrevious;
    private long _began = time.GetTimestamp();

    /// <summary>
    /// Pages that were written in each of the last two windows: of these it is expected that they will be written again before anything that takes longer than a window is over.
    /// </summary>
    public PageBitmap Hot { get; } = new(pages);

    public long HotPages { get; private set; }

    /// <summary>Windows that have ended.</summary>
    public long Ended { get; private set; }

    /// <summary>Pages a second, over the last whole window, that had not been written in the one before: how fast the set of written pages grows. 0 until two windows are over.</summary>
    public double FreshPagesPerSecond { get; private set; }

    /// <summary>Pages that were written in the last two windows, each once. 0 until two windows are over.</summary>
    public long WrittenPages { get; private set; }

    /// <summary>How long to wait until the next look in the middle of a round.</summary>
    public TimeSpan Pause { get; private set; } = Least;

    /// <summary>Recording begins anew: what was written before is not known.</summary>
    public void Restart()
    {
        _current.Clear();
        _hasPrevious = false;
        _began = time.GetTimestamp();
    }

    /// <param name="found">What a scan has just found.</param>
    /// <param name="cost">How long the scan took.</param>
    public void Add(PageBitmap found, TimeSpan cost)
    {
        _current.Or(found);
        TimeSpan length = time.GetElapsedTime(_began);
        if (length < Least)
            return;
        long written = _current.CountSet();
        Ended++;
        TimeSpan faults = FaultCost * (written * FaultShare);
        // The second window is waited for less, once: only then is anything known of the guest.
        Pause = _hasPrevious ? Longest(Least, cost * ScanShare, faults < LeastOften ? faults : LeastOften) : Longest(Least, cost * FirstScanShare, default);
        if (_hasPrevious)
        {
            Hot.CopyFrom(_current);
            Hot.And(_previous);
            HotPages = Hot.CountSet();
            FreshPagesPerSecond = (written - HotPages) / length.TotalSeconds;
            WrittenPages = written - HotPages + _previous.CountSet();
        }

        (_current, _previous, _hasPrevious) = (_previous, _current, true);
        _current.Clear();
        _began = time.GetTimestamp();
    }

    private static TimeSpan Longest(TimeSpan first, TimeSpan second, TimeSpan third) => new(Math.Max(first.Ticks, Math.Max(second.Ticks, third.Ticks)));
}
