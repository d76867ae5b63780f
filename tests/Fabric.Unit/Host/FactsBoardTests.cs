using Fabric.Actors.Testing;
using Fabric.Host;
using Xunit;

namespace Fabric.Unit.Host;

public sealed class FactsBoardTests
{
    /// <summary>Timers count whole milliseconds. A wait of less that ends at once would ask the clock again and again until it has moved: the clock counts how often it is asked.</summary>
    [Fact]
    public async Task A_wait_of_less_than_a_millisecond_waits()
    {
        var time = new ManualTime();
        var clock = new AskedClock(time);
        var board = new FactsBoard(clock);
        var answer = board.WaitAsync(1, TimeSpan.FromMicroseconds(300), CancellationToken.None);
        Assert.False(answer.IsCompleted);
        Assert.InRange(clock.Asked, 1, 4);
        await time.AdvanceAsync(TimeSpan.FromMilliseconds(1));
        Assert.Equal(1, (await answer.WaitAsync(TimeSpan.FromSeconds(10))).Version);
    }

    private sealed class AskedClock(ManualTime time) : TimeProvider
    {
        internal int Asked { get; private set; }

        public override long TimestampFrequency => time.TimestampFrequency;

        public override long GetTimestamp() => ++Asked < 100 ? time.GetTimestamp() : throw new InvalidOperationException("The clock is asked again and again.");

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => time.CreateTimer(callback, state, dueTime, period);
    }
}
