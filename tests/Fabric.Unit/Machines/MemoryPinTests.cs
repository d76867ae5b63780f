using Fabric.Core;
using Fabric.Machines.Qemu;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Fabric.Unit.Machines;

/// <summary>How long a memory's file stays open. A count too many given back is seen by the handle being closed beneath its owner.</summary>
public sealed class MemoryPinTests
{
    [Fact]
    public void A_pin_keeps_the_file_open_beyond_its_owner()
    {
        using Pinned pinned = new();
        pinned.File.Dispose();
        Assert.False(pinned.File.IsClosed);
        pinned.Pin.Dispose();
        Assert.True(pinned.File.IsClosed);
    }

    /// <summary>As where a stream breaks and its migration is given up at the same time: both let go of it.</summary>
    [Fact]
    public void A_pin_that_is_disposed_twice_takes_nothing_from_the_owner()
    {
        using Pinned pinned = new();
        pinned.Pin.Dispose();
        pinned.Pin.Dispose();
        Assert.False(pinned.File.IsClosed);
        pinned.File.Dispose();
        Assert.True(pinned.File.IsClosed);
    }

    [Fact]
    public void A_file_that_is_closed_is_not_pinned()
    {
        using Pinned pinned = new();
        pinned.Pin.Dispose();
        pinned.File.Dispose();
        using MemoryStream mapping = new();
        Assert.Equal(ErrorCodes.MachineFailed, Assert.Throws<FabricException>(() => new MemoryPin(mapping, pinned.File)).Error.Code);
        Assert.False(mapping.CanRead); // what it was given is let go of
    }

    private sealed class Pinned : IDisposable
    {
        public Pinned()
        {
            File = System.IO.File.OpenHandle("/dev/zero");
            Pin = new MemoryPin(new MemoryStream(), File);
        }

        public SafeFileHandle File { get; }

        public MemoryPin Pin { get; }

        public void Dispose() => File.Dispose();
    }
}
