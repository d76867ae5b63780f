using System.Net.Sockets;
using System.Runtime.InteropServices;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>A descriptor that another process sent, with the bytes beside it. The receiver owns and closes it.</summary>
public readonly record struct ReceivedDescriptor(int Descriptor, int SenderProcessId, int PayloadBytes);

/// <summary>
/// A Unix listening socket that takes one descriptor (<c>SCM_RIGHTS</c>) from one expected process. The socket file is owner-only, and is
/// removed on disposal. One caller at a time.
/// </summary>
public sealed partial class DescriptorListener : IDisposable
{
    /// <summary>Bytes of a Unix socket's path, without the terminating zero (<c>sockaddr_un</c>).</summary>
    public const int MaxPathBytes = 107;

    private const int PollStepMilliseconds = 100;
    private const int StrangersMost = 64;

    private readonly Socket _socket;

    private DescriptorListener(Socket socket, string path)
    {
        _socket = socket;
        Path = path;
    }

    public string Path { get; }

    /// <exception cref="FabricException">invalid-argument: the path is too long for a Unix socket; native: the system refused.</exception>
    public static DescriptorListener Bind(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (System.Text.Encoding.UTF8.GetByteCount(path) > MaxPathBytes)
            throw new FabricException(ErrorCodes.InvalidArgument, $"The socket path '{path}' has more than {MaxPathBytes} bytes.", "Choose a shorter directory.");
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Bind(new UnixDomainSocketEndPoint(path));
            LinuxCalls.MakeOwnerOnly(path);
            socket.Listen(8);
            return new DescriptorListener(socket, path);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            throw new FabricException(ErrorCodes.Native, $"bind {path}: {error.Message}", cause: error);
        }
    }

    /// <summary>
    /// Waits for the sender and takes its descriptor. Connections of other processes than <paramref name="sender"/> (null: any) are closed
    /// and waiting goes on; so are connections that bring no descriptor.
    /// </summary>
    /// <param name="payload">Receives the bytes sent beside it.</param>
    /// <param name="giveUp">Asked every 100 ms: true ends the wait early (the sender died).</param>
    /// <returns>Null when the deadline passed or <paramref name="giveUp"/> said so.</returns>
    public ReceivedDescriptor? Receive(int? sender, Span<byte> payload, TimeSpan deadline, TimeProvider time, Func<bool> giveUp)
    {
        ArgumentNullException.ThrowIfNull(time);
        ArgumentNullException.ThrowIfNull(giveUp);
        long began = time.GetTimestamp();
        int strangers = 0;
        while (strangers < StrangersMost)
        {
            int left = Remaining(began, deadline, time);
            if (left <= 0)
                return null;
            if (!Descriptors.Readable(_socket.SafeHandle, left))
            {
                if (giveUp())
                    return null;
                continue;
            }

            using var peer = _socket.Accept();
            int processId = PeerOf(peer);
            if ((sender is null || sender == processId) && TryReceive(peer, payload, began, deadline, time, giveUp) is { } got)
                return got with { SenderProcessId = processId };
            strangers++;
        }

        return null;
    }

    public void Dispose()
    {
        _socket.Dispose();
        File.Delete(Path);
    }

    private static int Remaining(long began, TimeSpan deadline, TimeProvider time) =>
        (int)Math.Min((deadline - time.GetElapsedTime(began)).TotalMilliseconds, PollStepMilliseconds);

    private static ReceivedDescriptor? TryReceive(Socket peer, Span<byte> payload, long began, TimeSpan deadline, TimeProvider time, Func<bool> giveUp)
    {
        while (!Descriptors.Readable(peer.SafeHandle, Math.Max(Remaining(began, deadline, time), 0)))
        {
            if (Remaining(began, deadline, time) <= 0 || giveUp())
                return null;
        }

        return ReceiveMessage(peer.SafeHandle, payload);
    }

    private static unsafe int PeerOf(Socket peer)
    {
        var credentials = default(Layout.Credentials);
        uint length = (uint)sizeof(Layout.Credentials);

        // SAFETY: the kernel writes at most `length` bytes into the structure on this stack.
        if (GetOption(peer.SafeHandle, Layout.SocketLevel, Layout.PeerCredentials, &credentials, &length) != 0)
            throw NativeError.Last("SO_PEERCRED");
        return credentials.ProcessId;
    }

    private static unsafe ReceivedDescriptor? ReceiveMessage(SafeHandle socket, Span<byte> payload)
    {
        // Room for one descriptor only: the kernel closes what does not fit and says so in the flags.
        var control = default(Layout.ControlMessage);
        nint bytes;
        int flags;
        fixed (byte* buffer = payload)
        {
            var vector = new Layout.Vector { Base = buffer, Length = (nuint)payload.Length };
            var message = new Layout.Message
            {
                Vectors = &vector,
                VectorCount = 1,
                Control = &control,
                ControlLength = (nuint)sizeof(Layout.ControlMessage),
            };

            // SAFETY: payload is pinned, everything else is on this stack; lengths are theirs.
            bytes = ReceiveMessage(socket, &message, Layout.CloseOnExec | Layout.DoNotWait);
            flags = message.Flags;
        }

        bool hasDescriptor = bytes >= 0 && control.Length == (nuint)Layout.ControlLengthOfOne
            && control.Level == Layout.SocketLevel && control.Type == Layout.Rights;
        if (!hasDescriptor)
            return null;
        if ((flags & (Layout.Truncated | Layout.ControlTruncated)) == 0)
            return new ReceivedDescriptor(control.Descriptor, 0, (int)bytes);
        LinuxCalls.Close(control.Descriptor);
        return null;
    }

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    private static unsafe partial nint ReceiveMessage(SafeHandle socket, Layout.Message* message, int flags);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    private static unsafe partial int GetOption(SafeHandle socket, int level, int name, void* value, uint* length);

    /// <summary>Structures and numbers of sys/socket.h on 64-bit Linux; checked by unit tests.</summary>
    internal static class Layout
    {
        internal const int SocketLevel = 1;
        internal const int PeerCredentials = 17;
        internal const int Rights = 1;
        internal const int ControlTruncated = 0x8;
        internal const int Truncated = 0x20;
        internal const int DoNotWait = 0x40;
        internal const int CloseOnExec = 0x40000000;

        /// <summary><c>CMSG_LEN(sizeof(int))</c>.</summary>
        internal const int ControlLengthOfOne = 20;

        [StructLayout(LayoutKind.Sequential)]
        internal struct Credentials
        {
            internal int ProcessId;
            internal uint UserId;
            internal uint GroupId;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal unsafe struct Vector
        {
            internal byte* Base;
            internal nuint Length;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal unsafe struct Message
        {
            internal void* Name;
            internal uint NameLength;
            internal Vector* Vectors;
            internal nuint VectorCount;
            internal void* Control;
            internal nuint ControlLength;
            internal int Flags;
        }

        /// <summary>A control message with one descriptor, padded as <c>CMSG_SPACE</c> pads it.</summary>
        [StructLayout(LayoutKind.Explicit, Size = 24)]
        internal struct ControlMessage
        {
            [FieldOffset(0)] internal nuint Length;
            [FieldOffset(8)] internal int Level;
            [FieldOffset(12)] internal int Type;
            [FieldOffset(16)] internal int Descriptor;
        }
    }
}
