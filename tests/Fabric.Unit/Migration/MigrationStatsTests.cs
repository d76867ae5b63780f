using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration;

public sealed class MigrationStatsTests
{
    private static readonly MigrationStats Earlier = new()
    {
        TotalBytes = 100,
        WireBytes = 60,
        PagesSent = 6,
        PagesZero = 2,
        PagesResent = 1,
        Rounds = 3,
        RemainingBytes = 50,
        DirtyRate = 7,
        WireRate = 8,
        DowntimeMs = 9,
        NetworkFaults = 4,
        FaultStallMs = 2,
    };

    [Fact]
    public void What_a_stream_counts_is_added_to_what_broke_and_what_is_measured_is_the_later_ones()
    {
        var all = new MigrationStats { TotalBytes = 100, WireBytes = 30, PagesSent = 3, PagesZero = 1, RemainingBytes = 10, WireRate = 5, NetworkFaults = 6 }.After(Earlier);
        Assert.Equal((100, 90, 9, 3, 1, 3, 10), (all.TotalBytes, all.WireBytes, all.PagesSent, all.PagesZero, all.PagesResent, all.Rounds, all.RemainingBytes));
        Assert.Equal((7, 5, 9.0, 6, 2.0), (all.DirtyRate, all.WireRate, all.DowntimeMs, all.NetworkFaults, all.FaultStallMs));
    }

    [Fact]
    public void The_first_stream_has_none_before_it() => Assert.Same(Earlier, Earlier.After(null));
}
