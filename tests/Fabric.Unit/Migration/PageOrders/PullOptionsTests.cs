using System.Text.Json;
using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>What a user may say about the order of a pull: its names, its default in records that were written before there was a choice, its bounds.</summary>
public sealed class PullOptionsTests
{
    [Fact]
    public void A_record_that_does_not_name_an_order_has_the_default()
    {
        var old = JsonSerializer.Deserialize<MigrationOptions>("""{"Mode":"post-copy","MaxDowntimeMs":300,"Verify":"frames","BulkConnections":2}""")!;
        Assert.Equal((PageOrder.DualMulti, 7), (old.Order, old.Pivots));
    }

    [Fact]
    public void Names_are_kebab_case_and_read_back()
    {
        string[] names = [.. Enum.GetValues<PageOrder>().Select(order => JsonSerializer.Serialize(order).Trim('"'))];
        Assert.Equal(
            ["dual-multi", "dual-multi-lru", "forward-multi", "forward-multi-lru", "dual", "dual-lru", "forward", "forward-lru", "push-only", "push-only-lru"], names);
        Assert.All(Enum.GetValues<PageOrder>(), order => Assert.Equal(order, JsonSerializer.Deserialize<PageOrder>(JsonSerializer.Serialize(order))));
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(1, true)]
    [InlineData(64, true)]
    [InlineData(65, false)]
    public void Pivots_are_bounded(int pivots, bool accepted)
    {
        FabricError? error = new MigrationOptions(Pivots: pivots).Validate();
        Assert.Equal(accepted, error is null);
        if (error is not null)
            Assert.Contains($"{pivots} pivots", error.Message, StringComparison.Ordinal);
    }
}
