namespace Fabric.Core;

/// <summary>Between spans of time and the time stamps of a clock: what <see cref="TimeProvider.GetElapsedTime(long)"/> undoes.</summary>
public static class TimestampSpans
{
    /// <summary>How far apart two time stamps are that lie <paramref name="span"/> apart.</summary>
    public static long GetTimestampTicks(this TimeProvider time, TimeSpan span)
    {
        ArgumentNullException.ThrowIfNull(time);
        return (long)(span.TotalSeconds * time.TimestampFrequency);
    }

    /// <summary>The time stamp of the moment that lies <paramref name="age"/> back.</summary>
    public static long GetTimestampBefore(this TimeProvider time, TimeSpan age)
    {
        ArgumentNullException.ThrowIfNull(time);
        return time.GetTimestamp() - time.GetTimestampTicks(age);
    }
}
