using Fabric.Core;
using Fabric.Daemon.Measuring;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Daemon;

/// <summary>The benchmark's switch. Claim: it is off unless set, and a name that is no order is refused with the value and the names that are.</summary>
public sealed class ReadAheadSwitchTests
{
    [Theory]
    [InlineData(null)]
    [InlineData("")]
    public void Unset_it_names_no_order(string? text) => Assert.Empty(ReadAheadSwitch.Read(text));

    [Fact]
    public void It_names_orders_as_the_command_line_does() => Assert.Equal([PageOrder.DualMultiLru, PageOrder.PushOnly], ReadAheadSwitch.Read("push-only, dual-multi-lru").Order());

    [Fact]
    public void Another_word_is_refused()
    {
        var error = Assert.Throws<FabricException>(() => ReadAheadSwitch.Read("push-only,sideways")).Error;
        Assert.Equal(ErrorCodes.InvalidArgument, error.Code);
        Assert.Contains("'sideways'", error.Message, StringComparison.Ordinal);
        Assert.Contains("dual-multi", error.Hint, StringComparison.Ordinal);
    }
}
