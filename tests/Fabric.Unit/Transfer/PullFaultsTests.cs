using Fabric.Actors.Testing;
using Fabric.Transfer.Incoming;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>What is counted as which fault, and how long the guest stood at them, on a clock that the test moves.</summary>
public sealed class PullFaultsTests
{
    private readonly ManualTime _time = new();

    [Fact]
    public void A_page_that_was_asked_for_is_a_network_fault_and_one_that_was_on_its_way_a_minor_one()
    {
        var faults = new PullFaults(_time);
        faults.Begin(1);
        faults.Begin(2);
        _time.Advance(TimeSpan.FromMilliseconds(2));
        Assert.True(faults.End(1, asked: true));
        _time.Advance(TimeSpan.FromMilliseconds(3));
        Assert.True(faults.End(2, asked: false));
        faults.CountMinor();
        Assert.Equal((1, 2), (faults.Network, faults.Minor));
        Assert.Equal(7, faults.Stalled.TotalMilliseconds);
        Assert.InRange(faults.Quantile(0.5)!.Value, 1750, 2250);
        Assert.InRange(faults.Quantile(0.99)!.Value, 4400, 5600);
    }

    [Fact]
    public void A_page_ends_once_and_one_that_nobody_waits_for_never()
    {
        var faults = new PullFaults(_time);
        faults.Begin(1);
        Assert.True(faults.End(1, asked: true));
        Assert.False(faults.End(1, asked: false));
        Assert.False(faults.End(2, asked: true));
        Assert.Equal((1, 0), (faults.Network, faults.Minor));
    }

    [Fact]
    public void The_wait_for_a_page_goes_on_where_its_stream_broke()
    {
        var faults = new PullFaults(_time);
        faults.Begin(1);
        _time.Advance(TimeSpan.FromSeconds(1));
        faults.Begin(1); // seen again by the next stream
        _time.Advance(TimeSpan.FromSeconds(1));
        faults.End(1, asked: true);
        Assert.Equal(2, faults.Stalled.TotalSeconds);
    }

    [Fact]
    public void More_open_faults_than_any_guest_can_have_are_not_counted_and_do_no_harm()
    {
        var faults = new PullFaults(_time);
        for (long page = 0; page < 2000; page++)
            faults.Begin(page);
        for (long page = 0; page < 2000; page++)
            faults.End(page, asked: true);
        Assert.Equal(1024, faults.Network);
    }
}
