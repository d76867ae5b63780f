using Fabric.Core;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Native;

/// <summary>Who holds a pin may follow the address; proved by following it after the owner has let go.</summary>
public sealed class MappedMemoryTests
{
    [Fact]
    public void A_pin_keeps_the_pages_until_the_last_one_is_gone()
    {
        var memory = MappedMemory.Anonymous(4096);
        var first = memory.Pin();
        var second = memory.Pin();
        memory.Dispose();
        memory.Dispose();
        first.Dispose();
        first.Dispose(); // counts once
        PageBytes.Copy(memory.Address, memory.Address + 2048, 2048);
        Assert.Equal(ErrorCodes.MachineFailed, Assert.Throws<FabricException>(memory.Pin).Error.Code);
        second.Dispose();
        Assert.Throws<ObjectDisposedException>(() => memory.Address);
    }

    [Fact]
    public void Without_a_pin_the_pages_go_with_their_owner()
    {
        var memory = MappedMemory.Anonymous(4096);
        memory.Pin().Dispose();
        memory.Dispose();
        Assert.Throws<ObjectDisposedException>(() => memory.Address);
    }
}
