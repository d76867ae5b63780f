namespace Fabric.Core;

public static class TimestampAges
{
    /// <summary>The clock's time stamp of the moment that lies <paramref name="age"/> back: what <see cref="TimeProvider.GetElapsedTime(long)"/> undoes.</summary>
    public static long GetTimestampBefore(this TimeProvider time, TimeSpan age)
    {
        ArgumentNullException.ThrowIfNull(time);
        return time.GetTimestamp() - (long)(age.TotalSeconds * time.TimestampFrequency);
    }
}
