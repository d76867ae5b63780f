using System.Text.Json;
using Fabric.Machines.Qemu;
using Xunit;

namespace Fabric.Unit.Machines;

/// <summary>When the vCPUs stopped and ran, by QEMU's own stamp; a stamp that cannot be is replaced by the moment of reading.</summary>
public sealed class EventWatchTests
{
    private static readonly TimeProvider Time = TimeProvider.System;

    [Theory]
    [InlineData(-40, true)]
    [InlineData(-3_600_000, false)]
    [InlineData(+60_000, false)]
    public void A_stamp_is_taken_if_it_is_of_a_moment_ago(int millisecondsAgo, bool taken)
    {
        var watch = new EventWatch(Time);
        Assert.Null(watch.ResumedAt);
        watch.OnEvent(new QmpEvent("RESUME", default, Time.GetUtcNow().AddMilliseconds(millisecondsAgo)));
        var age = Time.GetElapsedTime(watch.ResumedAt!.Value);
        Assert.Equal(taken, age >= TimeSpan.FromMilliseconds(-millisecondsAgo) && millisecondsAgo < 0);
        Assert.Null(watch.StoppedAt);
        watch.OnEvent(new QmpEvent("STOP", default));
        Assert.True(watch.StoppedAt >= watch.ResumedAt);
    }

    [Theory]
    [InlineData("""{"timestamp":{"seconds":1700000000,"microseconds":250000}}""", 1700000000.25)]
    [InlineData("""{"timestamp":{"seconds":-1,"microseconds":0}}""", null)]
    [InlineData("""{"timestamp":{"seconds":9223372036854775807,"microseconds":0}}""", null)]
    [InlineData("""{"timestamp":{"seconds":1,"microseconds":1000000}}""", null)]
    [InlineData("""{"timestamp":17}""", null)]
    [InlineData("""{}""", null)]
    public void A_moment_is_read_or_is_none(string json, double? seconds)
    {
        using var document = JsonDocument.Parse(json);
        var moment = QmpJson.Moment(document.RootElement, "timestamp");
        Assert.Equal(seconds, moment is { } at ? at.ToUnixTimeMilliseconds() / 1000.0 : null);
    }
}
