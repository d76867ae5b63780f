namespace Fabric.Transfer.Outgoing;

/// <summary>
/// Bytes a second that the path carries, from the bytes that left in stretches of time in which there was always something to send. A moving average: one
/// stretch counts by its length. A short one may have found room in buffers or in a token bucket on the way, and counts as no more than <see cref="MostRise"/> times what is known. The flow's; not shared.
/// </summary>
internal sealed class WireMeter
{
    /// <summary>Bytes below which a stretch is latency rather than rate.</summary>
    internal const long Measurable = 256 * 1024;

    private const double LeastWeight = 0.2;

    /// <summary>Seconds.</summary>
    private const double Short = 0.05;
    private const double MostRise = 10;

    /// <summary>Bytes a second; 0 until something could be measured.</summary>
    public double Rate { get; private set; }

    public void Add(long bytes, TimeSpan time)
    {
        if (bytes < Measurable || time <= TimeSpan.Zero)
            return;
        double rate = bytes / time.TotalSeconds;
        if (Rate > 0 && time.TotalSeconds < Short)
            rate = Math.Min(rate, MostRise * Rate);
        double weight = Rate == 0 ? 1 : Math.Clamp(time.TotalSeconds, LeastWeight, 1);
        Rate += weight * (rate - Rate);
    }
}
