using Fabric.Actors.Testing;
using Fabric.Supervisor;
using Xunit;

namespace Fabric.Unit.Supervisor;

public sealed class SteadyClockTests
{
    /// <summary>Deadlines compare what it says: a wall clock that is set back must not make a minute an hour.</summary>
    [Fact]
    public void A_wall_clock_that_is_set_back_does_not_lengthen_a_deadline()
    {
        var time = new ManualTime();
        var clock = new SteadyClock(time);
        var began = clock.Now;
        time.JumpWallClock(TimeSpan.FromHours(-1));
        time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(began + TimeSpan.FromMinutes(1), clock.Now);
        time.JumpWallClock(TimeSpan.FromHours(2));
        Assert.Equal(time.GetUtcNow(), clock.Now);
    }

    [Fact]
    public void What_another_node_wrote_down_is_not_in_the_future()
    {
        var time = new ManualTime();
        var clock = new SteadyClock(time);
        var written = clock.Now + TimeSpan.FromHours(1);
        clock.NotBefore(written);
        time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal(written + TimeSpan.FromSeconds(5), clock.Now);
    }
}
