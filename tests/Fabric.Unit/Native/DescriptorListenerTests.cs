using System.Net.Sockets;
using Fabric.Core;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Native;

public sealed class DescriptorListenerTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-unit-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Peer_that_sends_no_descriptor_and_a_stranger_are_passed_over()
    {
        using var listener = DescriptorListener.Bind(Path.Combine(_directory, "s"));
        using var peer = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        peer.Connect(new UnixDomainSocketEndPoint(listener.Path));
        peer.Send("only bytes"u8);
        int asked = 0;
        Assert.Null(listener.Receive(null, new byte[32], TimeSpan.FromSeconds(20), TimeProvider.System, () => ++asked > 0));
        using var stranger = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        stranger.Connect(new UnixDomainSocketEndPoint(listener.Path));
        Assert.Null(listener.Receive(Environment.ProcessId + 1, new byte[32], TimeSpan.FromSeconds(20), TimeProvider.System, () => ++asked > 0));
    }

    [Fact]
    public void Nobody_comes_and_the_deadline_ends_it()
    {
        var listener = DescriptorListener.Bind(Path.Combine(_directory, "s"));
        Assert.Null(listener.Receive(null, new byte[32], TimeSpan.FromMilliseconds(1), TimeProvider.System, () => false));
        listener.Dispose();
        Assert.Empty(Directory.EnumerateFileSystemEntries(_directory));
    }

    [Fact]
    public void Path_longer_than_a_socket_address_is_refused_by_name()
    {
        string path = Path.Combine(_directory, new string('x', 120));
        var error = Assert.Throws<FabricException>(() => DescriptorListener.Bind(path));
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
    }
}
