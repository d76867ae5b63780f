using Fabric.Core;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

public sealed class WireMeterTests
{
    private const double Slow = 16 * ByteSize.Mebi;

    /// <summary>What had gathered in a bucket while the senders had no processor leaves within milliseconds at the end of a round.</summary>
    [Fact]
    public void A_burst_is_not_taken_for_the_wire()
    {
        WireMeter meter = new();
        Add(meter, Slow, 0.5);
        Add(meter, 30 * Slow, 0.003);
        Assert.InRange(meter.Rate, Slow, 3 * Slow);
    }

    /// <summary>One round tells that it is another wire, also where all that can be sent passes in milliseconds.</summary>
    [Theory]
    [InlineData(1, 2)]
    [InlineData(6, 15)]
    public void A_wire_that_became_faster_is_found_in_short_rounds(int rounds, double times)
    {
        WireMeter meter = new();
        Add(meter, Slow, 0.5);
        for (int round = 0; round < rounds; round++)
            Add(meter, 30 * Slow, 0.003);
        Assert.InRange(meter.Rate, times * Slow, 30 * Slow);
    }

    [Fact]
    public void A_longer_stretch_counts_as_it_is()
    {
        WireMeter meter = new();
        Add(meter, Slow, 0.1);
        Add(meter, 30 * Slow, 1);
        Assert.Equal(30 * Slow, meter.Rate, 1.0);
    }

    private static void Add(WireMeter meter, double rate, double seconds) => meter.Add((long)(rate * seconds), TimeSpan.FromSeconds(seconds));
}
