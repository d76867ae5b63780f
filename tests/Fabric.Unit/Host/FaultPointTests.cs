using Fabric.Core;
using Fabric.Host.Ledger;
using Xunit;

namespace Fabric.Unit.Host;

public sealed class FaultPointTests
{
    [Fact]
    public void A_fault_is_read_from_its_words()
    {
        Assert.Equal(new FaultPoint(FaultMoment.After, "token-sent", FaultVictim.Agent), FaultPoint.Parse("after token-sent agent"));
        Assert.Contains("accepted", FaultPoint.RecordKinds);
    }

    [Theory]
    [InlineData("")]
    [InlineData("after")]
    [InlineData("after nothing agent")]
    [InlineData("sometime token-sent agent")]
    [InlineData("after token-sent world")]
    public void Anything_else_is_refused_with_the_words_to_use(string text)
    {
        var refused = Assert.Throws<FabricException>(() => FaultPoint.Parse(text));
        Assert.Contains("before|after", refused.Error.Hint, StringComparison.Ordinal);
    }
}
