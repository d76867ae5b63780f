using Fabric.Host.Memory;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>The run token and the decision to keep the VM: never both. Seen to fail with a gate that lets a withdrawn token pass.</summary>
public sealed class TokenGateTests
{
    [Fact]
    public void A_token_that_has_left_is_not_withdrawn()
    {
        var gate = new TokenGate();
        Assert.True(gate.TryPass());
        Assert.False(gate.TryWithdraw());
    }

    [Fact]
    public void A_withdrawn_token_never_leaves_however_often_it_is_asked()
    {
        var gate = new TokenGate();
        Assert.True(gate.TryWithdraw());
        Assert.True(gate.TryWithdraw());
        Assert.False(gate.TryPass());
        Assert.True(gate.TryWithdraw());
    }

    [Fact]
    public void Of_two_threads_one_wins()
    {
        for (int i = 0; i < 2000; i++)
        {
            var gate = new TokenGate();
            bool passed = false;
            bool withdrawn = false;
            Parallel.Invoke(() => passed = gate.TryPass(), () => withdrawn = gate.TryWithdraw());
            Assert.NotEqual(passed, withdrawn);
        }
    }
}
