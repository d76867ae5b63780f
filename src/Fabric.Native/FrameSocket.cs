using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// Ethernet frames of one network interface, seen or sent past the network stack (packet(7)). Each frame has before it <see cref="HeaderBytes"/> of the kernel's own (struct virtio_net_hdr):
/// what is still to be done for its checksum and segments, which must travel with the frame or it arrives broken. Used by one thread at a time.
/// </summary>
public sealed unsafe partial class FrameSocket : IDisposable
{
    /// <summary>Bytes before each frame.</summary>
    public const int HeaderBytes = 10;

    /// <summary>Room for a header and the largest frame, which is one that the interface would cut into segments.</summary>
    public const int FrameBytesMost = HeaderBytes + 64 * 1024 + 64;

    private const int FamilyPacket = 17;
    private const int SocketRaw = 3;
    private const int SocketCloseOnExec = 0x80000;
    private const int PacketLevel = 263;
    private const int PacketVirtioHeader = 15;
    private const ushort AllProtocols = 0x0300; // 3 in network order
    private const byte Outgoing = 4;
    private const int DontWait = 0x40;

    private readonly SafeFileHandle _handle;

    private FrameSocket(SafeFileHandle handle) => _handle = handle;

    /// <summary>Sees every frame of the interface, in both directions.</summary>
    /// <exception cref="FabricException">native: there is no such interface, or this process may not (CAP_NET_RAW).</exception>
    public static FrameSocket Watching(string name) => Open(name, AllProtocols);

    /// <summary>Only sends.</summary>
    /// <exception cref="FabricException">native: as for <see cref="Watching"/>.</exception>
    public static FrameSocket Sending(string name) => Open(name, protocol: 0);

    /// <summary>
    /// The next frame with its header, after at most so many milliseconds. 0: none came; −1: the interface is down or gone.
    /// </summary>
    /// <param name="buffer">At least <see cref="FrameBytesMost"/>.</param>
    /// <param name="milliseconds">0: what has come already.</param>
    /// <param name="leaves">The frame left the host by the interface; else it came by it.</param>
    public int Receive(Span<byte> buffer, int milliseconds, out bool leaves)
    {
        leaves = false;
        if (!Descriptors.Readable(_handle, milliseconds))
            return 0;
        var from = default(Layout.Address);
        int length = sizeof(Layout.Address);
        nint got;

        // SAFETY: the kernel writes at most buffer.Length bytes there, and one address on this stack.
        fixed (byte* bytes = buffer)
            got = ReceiveFrom(_handle, bytes, (nuint)buffer.Length, DontWait, &from, &length);
        if (got >= 0)
        {
            leaves = from.PacketType == Outgoing;
            return (int)got;
        }

        return Marshal.GetLastPInvokeError() is Errno.TryAgain or Errno.Interrupted ? 0 : -1;
    }

    /// <summary>Sends a frame with its header out of the interface; false when the kernel does not take it.</summary>
    public bool Send(ReadOnlySpan<byte> frame)
    {
        // SAFETY: the kernel reads exactly the span.
        fixed (byte* bytes = frame)
            return LinuxCalls.Write(_handle, bytes, (nuint)frame.Length) == frame.Length;
    }

    public void Dispose() => _handle.Dispose();

    private static FrameSocket Open(string name, ushort protocol)
    {
        int index = NetworkLink.IndexOf(name);
        int descriptor = Socket(FamilyPacket, SocketRaw | SocketCloseOnExec, 0);
        if (descriptor < 0)
            throw NativeError.Last("a packet socket");
        var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        int on = 1;
        var address = new Layout.Address { Family = FamilyPacket, Protocol = protocol, Index = index };

        // SAFETY: both calls only read these values on the stack.
        if (SetOption(handle, PacketLevel, PacketVirtioHeader, &on, sizeof(int)) == 0 && Bind(handle, &address, sizeof(Layout.Address)) == 0)
            return new FrameSocket(handle);
        var error = NativeError.Last($"a packet socket on interface {name}");
        handle.Dispose();
        throw error;
    }

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int Socket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static partial int SetOption(SafeHandle socket, int level, int option, void* value, int length);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    private static partial int Bind(SafeHandle socket, Layout.Address* address, int length);

    [LibraryImport("libc", EntryPoint = "recvfrom", SetLastError = true)]
    private static partial nint ReceiveFrom(SafeHandle socket, void* buffer, nuint length, int flags, Layout.Address* from, int* fromLength);

    /// <summary>struct sockaddr_ll of linux/if_packet.h.</summary>
    internal static class Layout
    {
        [StructLayout(LayoutKind.Sequential, Pack = 4)]
        internal struct Address
        {
            internal ushort Family;
            internal ushort Protocol;
            internal int Index;
            internal ushort HardwareType;
            internal byte PacketType;
            internal byte HardwareLength;
            internal ulong Hardware;
        }
    }
}
