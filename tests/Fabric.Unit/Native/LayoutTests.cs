using System.Runtime.CompilerServices;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Native;

/// <summary>Structure sizes and request numbers against the values of the kernel's headers (x86-64 and arm64 agree on all of them).</summary>
public sealed class LayoutTests
{
    [Fact]
    public void Userfaultfd_requests_have_the_kernels_numbers()
    {
        Assert.Equal(0xc018aa3fu, UserFaultLayout.ApiRequest);
        Assert.Equal(0xc020aa00u, UserFaultLayout.RegisterRequest);
        Assert.Equal(0x8010aa01u, UserFaultLayout.UnregisterRequest);
        Assert.Equal(0x8010aa02u, UserFaultLayout.WakeRequest);
        Assert.Equal(0xc028aa03u, UserFaultLayout.CopyRequest);
        Assert.Equal(0xc020aa04u, UserFaultLayout.ZeroPageRequest);
        Assert.Equal(0xc020aa07u, UserFaultLayout.ContinueRequest);
        Assert.Equal(0x0000aa00u, UserFaultLayout.DeviceNewRequest);
    }

    [Fact]
    public void Pagemap_request_has_the_kernels_number() => Assert.Equal(0xc0606610u, PagemapScan.Layout.ScanRequest);

    [Fact]
    public void Structures_have_the_kernels_sizes()
    {
        Assert.Equal(24, Unsafe.SizeOf<UserFaultLayout.Api>());
        Assert.Equal(16, Unsafe.SizeOf<UserFaultLayout.Range>());
        Assert.Equal(32, Unsafe.SizeOf<UserFaultLayout.Register>());
        Assert.Equal(40, Unsafe.SizeOf<UserFaultLayout.Copy>());
        Assert.Equal(32, Unsafe.SizeOf<UserFaultLayout.ZeroPage>());
        Assert.Equal(32, Unsafe.SizeOf<UserFaultLayout.Continue>());
        Assert.Equal(32, Unsafe.SizeOf<UserFaultLayout.Message>());
        Assert.Equal(24, Unsafe.SizeOf<PageUnmapper.Layout.Range>());
        Assert.Equal(16, Unsafe.SizeOf<PageUnmapper.Layout.Outcome>());
        Assert.Equal(96, Unsafe.SizeOf<PagemapScan.Layout.Argument>());
        Assert.Equal(24, Unsafe.SizeOf<PagemapScan.Layout.Region>());
        Assert.Equal(48, Unsafe.SizeOf<CpuLimit.Layout.Attributes>());
        Assert.Equal(8, Unsafe.SizeOf<LinuxCalls.PollDescriptor>());
        Assert.Equal(12, Unsafe.SizeOf<DescriptorListener.Layout.Credentials>());
        Assert.Equal(16, Unsafe.SizeOf<DescriptorListener.Layout.Vector>());
        Assert.Equal(56, Unsafe.SizeOf<DescriptorListener.Layout.Message>());
        Assert.Equal(24, Unsafe.SizeOf<DescriptorListener.Layout.ControlMessage>());
        Assert.Equal(152, Unsafe.SizeOf<SocketIo.Layout.TcpInfo>());
    }

    [Fact]
    public void Requests_for_network_interfaces_have_the_kernels_layout()
    {
        Assert.Equal(40, Unsafe.SizeOf<NetworkLink.Layout.Request>());
        Assert.Equal(20, Unsafe.SizeOf<FrameSocket.Layout.Address>());
        Assert.True(NetworkLink.Exists("lo"));
        Assert.False(NetworkLink.Exists("no-such-link"));
        Assert.Throws<Fabric.Core.FabricException>(() => NetworkLink.Exists("a-name-of-sixteen"));
    }

    [Fact]
    public void Required_features_are_the_kernels_bits() =>
        Assert.Equal((1L << 5) | (1L << 10) | (1L << 12) | (1L << 13) | (1L << 15), (long)UserFaultFeatures.Required);
}
