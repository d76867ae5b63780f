using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>What the kernel has seen of a TCP connection's path.</summary>
/// <param name="RoundTrip">Of late, smoothed.</param>
/// <param name="ShortestRoundTrip">Of the last minutes.</param>
/// <param name="RoundTripDeviation">By how much round trips of late differ from the smoothed one, in the mean (RFC 6298).</param>
/// <param name="DeliveredBytes">Acknowledged by the peer since the connection was made.</param>
public readonly record struct PathReading(TimeSpan RoundTrip, TimeSpan ShortestRoundTrip, TimeSpan RoundTripDeviation, long DeliveredBytes);

/// <summary>
/// Scatter/gather socket calls straight between sockets and memory outside the garbage collector. The calls block, so they never suppress the
/// GC transition; a thread that waits in one of them is ended by <c>shutdown</c> of the socket from another thread.
/// <para>Deadlines are made of slices: <see cref="MakeBlocking"/> gives the socket SO_RCVTIMEO and SO_SNDTIMEO, a call that moved nothing in
/// that time returns −<see cref="Errno.TryAgain"/>, and the caller looks at its clock and at its cancellation before it calls again.</para>
/// </summary>
public static unsafe partial class SocketIo
{
    private const int MessageEndOfRecord = 0x80;
    private const int MessageWaitAll = 0x100;
    private const int MessageNoSignal = 0x4000;
    private const int MessageMore = 0x8000;
    private const int GetFlags = 3;
    private const int SetFlags = 4;
    private const int NonBlocking = 0x800;
    private const int SolSocket = 1;
    private const int ReceiveTimeout = 20;
    private const int SendTimeout = 21;
    private const int MaxPacingRate = 47;
    private const int ProtocolTcp = 6;
    private const int TcpInfoOption = 11;
    private const int TcpCongestion = 13;
    private const int TcpNotSentLowWater = 25;
    private const nuint OutQueue = 0x5411; // TIOCOUTQ, alias SIOCOUTQ (tcp(7))
    private const short PollIn = 1;

    /// <summary>Makes calls on the descriptor block, but for no longer than <paramref name="sliceMilliseconds"/> without progress.</summary>
    /// <exception cref="Core.FabricException">native: not a socket.</exception>
    public static void MakeBlocking(int descriptor, int sliceMilliseconds)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sliceMilliseconds);
        int flags = Libc.Fcntl(descriptor, GetFlags, 0);
        if (flags < 0 || Libc.Fcntl(descriptor, SetFlags, flags & ~NonBlocking) < 0)
            throw NativeError.Last($"fcntl of descriptor {descriptor}");
        TimeValue slice = new() { Seconds = sliceMilliseconds / 1000, Microseconds = sliceMilliseconds % 1000 * 1000L };
        // SAFETY: the structure lives on this frame for the duration of both calls.
        if (Libc.SetOption(descriptor, SolSocket, ReceiveTimeout, &slice, (uint)sizeof(TimeValue)) != 0
            || Libc.SetOption(descriptor, SolSocket, SendTimeout, &slice, (uint)sizeof(TimeValue)) != 0)
            throw NativeError.Last($"setsockopt(SO_RCVTIMEO) of descriptor {descriptor}");
    }

    /// <summary>
    /// Lets a TCP socket take at most about so many bytes that are not on the wire yet, so that what is sent later on another socket does not
    /// wait behind a long queue. Best effort: sockets that are not TCP ignore it.
    /// </summary>
    public static void LimitUnsent(int descriptor, int bytes) =>
        // SAFETY: the value lives on this frame for the duration of the call.
        _ = Libc.SetOption(descriptor, ProtocolTcp, TcpNotSentLowWater, &bytes, sizeof(int));

    /// <summary>
    /// Has the kernel pace a TCP socket by its model of the path (BBR: just under the rate that the path was seen to deliver) rather than fill the queues on the way until something is
    /// lost: whatever else crosses the path waits in those queues too. Best effort: without that algorithm the socket keeps the one that it has.
    /// </summary>
    public static void PaceByModel(int descriptor)
    {
        ReadOnlySpan<byte> name = "bbr"u8;
        // SAFETY: the name is constant data; the call reads its three bytes.
        fixed (byte* first = name)
            _ = Libc.SetOption(descriptor, ProtocolTcp, TcpCongestion, first, (uint)name.Length);
    }

    /// <summary>Has the kernel send no faster than that, however fast its algorithm would; 0 lifts it. Best effort.</summary>
    public static void PaceAtMost(int descriptor, long bytesPerSecond)
    {
        ulong rate = bytesPerSecond > 0 ? (ulong)bytesPerSecond : ulong.MaxValue;
        // SAFETY: the kernel reads the eight bytes.
        _ = Libc.SetOption(descriptor, SolSocket, MaxPacingRate, &rate, sizeof(ulong));
    }

    /// <summary>What the kernel knows of a TCP socket's path; false where it does not say.</summary>
    public static bool TryReadPath(int descriptor, out PathReading path)
    {
        path = default;
        Layout.TcpInfo info = default;
        uint length = (uint)sizeof(Layout.TcpInfo);
        // SAFETY: the kernel writes at most as many bytes as it is told that there are.
        if (Libc.GetOption(descriptor, ProtocolTcp, TcpInfoOption, &info, &length) != 0 || length < sizeof(Layout.TcpInfo))
            return false;
        path = new PathReading(
            TimeSpan.FromMicroseconds(info.RoundTrip),
            TimeSpan.FromMicroseconds(info.ShortestRoundTrip),
            TimeSpan.FromMicroseconds(info.RoundTripDeviation),
            (long)info.BytesAcked);
        return true;
    }

    /// <summary>One gathered send; strikes off what was taken. Returns the bytes moved, or a negative errno.</summary>
    /// <param name="descriptor">A connected socket.</param>
    /// <param name="areas">What is sent, in order.</param>
    /// <param name="more">More follows at once: the kernel need not send, nor wake the reader for, what fills no segment.</param>
    public static long Send(int descriptor, SocketIoVectors areas, bool more = false)
    {
        ArgumentNullException.ThrowIfNull(areas);
        MessageHeader message = new() { Vectors = areas.Head, VectorCount = (nuint)areas.Count };
        // SAFETY: the areas' owner keeps them mapped during the call; the header lives on this frame.
        nint moved = Libc.SendMessage(descriptor, &message, MessageNoSignal | (more ? MessageMore : 0));
        return Finish(moved, areas);
    }

    /// <summary>
    /// One gathered send of no more than <paramref name="most"/> bytes, which the kernel sends by themselves: it does not put more behind them into one burst. Otherwise as
    /// <see cref="Send"/>.
    /// </summary>
    public static long SendBurst(int descriptor, SocketIoVectors areas, int most)
    {
        ArgumentNullException.ThrowIfNull(areas);
        ArgumentOutOfRangeException.ThrowIfLessThan(most, 1);
        var shortened = areas.Shorten(most);
        MessageHeader message = new() { Vectors = areas.Head, VectorCount = (nuint)shortened.Count };
        // SAFETY: as in Send.
        nint moved = Libc.SendMessage(descriptor, &message, MessageNoSignal | MessageEndOfRecord);
        long error = moved < 0 ? Marshal.GetLastPInvokeError() : 0;
        areas.Restore(shortened);
        if (moved < 0)
            return -error;
        areas.Advance(moved);
        return moved;
    }

    /// <summary>Bytes of a TCP socket that were sent and not acknowledged, or not even sent; 0 where the kernel does not say.</summary>
    public static int Outstanding(int descriptor)
    {
        int bytes = 0;
        // SAFETY: the kernel writes one int.
        return Libc.Ioctl(descriptor, OutQueue, &bytes) < 0 ? 0 : bytes;
    }

    /// <summary>Returns when there is something to read, when the peer is gone, or when the time is over: to some tens of microseconds, as timers go.</summary>
    public static void AwaitInput(int descriptor, TimeSpan most)
    {
        LinuxCalls.PollDescriptor wait = new() { Descriptor = descriptor, Events = PollIn };
        TimeSpec time = new() { Seconds = (long)most.TotalSeconds, Nanoseconds = most.Ticks % TimeSpan.TicksPerSecond * 100 };
        // SAFETY: both live on this frame for the duration of the call.
        _ = Libc.PollWithin(&wait, 1, &time, 0);
    }

    /// <summary>
    /// One scattered receive that waits for all of it; strikes off what came. Returns the bytes moved, 0 when the peer closed, or a negative errno.
    /// </summary>
    public static long Receive(int descriptor, SocketIoVectors areas)
    {
        ArgumentNullException.ThrowIfNull(areas);
        MessageHeader message = new() { Vectors = areas.Head, VectorCount = (nuint)areas.Count };
        // SAFETY: as in Send.
        nint moved = Libc.ReceiveMessage(descriptor, &message, MessageWaitAll);
        return Finish(moved, areas);
    }

    private static long Finish(nint moved, SocketIoVectors areas)
    {
        if (moved < 0)
            return -Marshal.GetLastPInvokeError();
        areas.Advance(moved);
        return moved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct TimeSpec
    {
        internal long Seconds;
        internal long Nanoseconds;
    }

    // struct msghdr of 64-bit Linux; the compiler pads as C does.
    [StructLayout(LayoutKind.Sequential)]
    internal struct MessageHeader
    {
        internal nint Name;
        internal uint NameLength;
        internal nint Vectors;
        internal nuint VectorCount;
        internal nint Control;
        internal nuint ControlLength;
        internal int Flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct TimeValue
    {
        internal long Seconds;
        internal long Microseconds;
    }

    internal static class Layout
    {
        /// <summary>The head of <c>struct tcp_info</c> (linux/tcp.h), as far as it is read; it only ever grows at its end.</summary>
        [StructLayout(LayoutKind.Explicit, Size = 152)]
        internal struct TcpInfo
        {
            [FieldOffset(68)]
            internal uint RoundTrip;

            [FieldOffset(72)]
            internal uint RoundTripDeviation;

            [FieldOffset(120)]
            internal ulong BytesAcked;

            [FieldOffset(148)]
            internal uint ShortestRoundTrip;
        }
    }

    private static partial class Libc
    {
        [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
        internal static partial int Ioctl(int descriptor, nuint request, int* value);

        [LibraryImport("libc", EntryPoint = "ppoll", SetLastError = true)]
        internal static partial int PollWithin(LinuxCalls.PollDescriptor* descriptors, nuint count, TimeSpec* timeout, nint mask);

        [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
        internal static partial nint SendMessage(int descriptor, MessageHeader* message, int flags);

        [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
        internal static partial nint ReceiveMessage(int descriptor, MessageHeader* message, int flags);

        [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
        internal static partial int SetOption(int descriptor, int level, int name, void* value, uint length);

        [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
        internal static partial int GetOption(int descriptor, int level, int name, void* value, uint* length);

        [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
        internal static partial int Fcntl(int descriptor, int command, nint argument);
    }
}
