using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// Network interfaces of the namespace that this process lives in (netdevice(7), bridge ioctls). Interfaces are asked for by name each time: they may go at any moment. Any thread.
/// </summary>
public static unsafe partial class NetworkLink
{
    private const int FamilyInet = 2;
    private const int SocketDatagram = 2;
    private const int SocketCloseOnExec = 0x80000;
    private const short FlagUp = 1;
    private const ushort HardwareEther = 1;

    /// <summary>Whether there is an interface of this name.</summary>
    public static bool Exists(string name)
    {
        using var socket = Open();
        var request = Named(name);

        // SAFETY: the kernel reads and writes only this structure on the stack; that holds for every request in this file.
        return LinuxCalls.Ioctl(socket, Layout.GetIndex, &request) == 0;
    }

    /// <exception cref="FabricException">native: there is no interface of this name.</exception>
    public static int IndexOf(string name)
    {
        using var socket = Open();
        var request = Named(name);
        Require(socket, Layout.GetIndex, &request, $"looking for interface {name}");
        return request.Index;
    }

    /// <summary>The six bytes of an Ethernet interface's address.</summary>
    /// <exception cref="FabricException">native: there is no interface of this name.</exception>
    public static byte[] AddressOf(string name)
    {
        using var socket = Open();
        var request = Named(name);
        Require(socket, Layout.GetHardwareAddress, &request, $"reading the address of interface {name}");
        ReadOnlySpan<byte> address = request.Address;
        return address.ToArray();
    }

    /// <summary>
    /// Makes an interface a port of a bridge, with a hardware address that lies above all others, and brings it up. A bridge without an address of its own takes the lowest of
    /// its ports': this one shall never be that.
    /// </summary>
    /// <exception cref="FabricException">native: there is no such interface, <paramref name="bridge"/> is no bridge, or this process may not.</exception>
    public static void Plug(string name, string bridge, ReadOnlySpan<byte> address)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(address.Length, 6);
        using var socket = Open();
        var hardware = Named(name);
        hardware.Family = HardwareEther;
        address.CopyTo(hardware.Address);
        Require(socket, Layout.SetHardwareAddress, &hardware, $"setting the address of interface {name}");
        var joined = Named(bridge);
        joined.Index = IndexOf(name);
        Require(socket, Layout.AddPort, &joined, $"adding interface {name} to bridge {bridge}");
        var flags = Named(name);
        Require(socket, Layout.GetFlags, &flags, $"reading the flags of interface {name}");
        flags.Flags |= FlagUp;
        Require(socket, Layout.SetFlags, &flags, $"bringing interface {name} up");
    }

    private static SafeFileHandle Open()
    {
        int descriptor = Socket(FamilyInet, SocketDatagram | SocketCloseOnExec, 0);
        return descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true) : throw NativeError.Last("socket");
    }

    private static void Require(SafeFileHandle socket, uint request, Layout.Request* argument, string what)
    {
        if (LinuxCalls.Ioctl(socket, request, argument) != 0)
            throw NativeError.Last(what);
    }

    private static Layout.Request Named(string name)
    {
        byte[] bytes = Encoding.ASCII.GetBytes(name);
        if (bytes.Length is 0 or > Layout.NameBytes - 1)
            throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(name)}' is not the name of a network interface.", $"Names have 1 to {Layout.NameBytes - 1} characters.");
        var request = default(Layout.Request);
        bytes.CopyTo(request.Name);
        return request;
    }

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int Socket(int family, int type, int protocol);

    /// <summary>struct ifreq of linux/if.h: a name, and a union of 24 bytes.</summary>
    internal static class Layout
    {
        internal const int NameBytes = 16;
        internal const uint GetFlags = 0x8913;
        internal const uint SetFlags = 0x8914;
        internal const uint SetHardwareAddress = 0x8924;
        internal const uint GetHardwareAddress = 0x8927;
        internal const uint GetIndex = 0x8933;
        internal const uint AddPort = 0x89a2;

        [InlineArray(NameBytes)]
        internal struct NameText
        {
            private byte _first;
        }

        [InlineArray(6)]
        internal struct EtherAddress
        {
            private byte _first;
        }

        [StructLayout(LayoutKind.Explicit, Size = 40)]
        internal struct Request
        {
            [FieldOffset(0)]
            internal NameText Name;

            [FieldOffset(16)]
            internal short Flags;

            [FieldOffset(16)]
            internal int Index;

            [FieldOffset(16)]
            internal ushort Family;

            [FieldOffset(18)]
            internal EtherAddress Address;
        }
    }
}
