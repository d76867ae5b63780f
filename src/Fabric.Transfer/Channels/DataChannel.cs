using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Native;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Channels;

/// <summary>
/// Frames on one connected socket, with blocking calls on the raw descriptor. Sending: any thread, one frame at a time. Receiving: one thread.
/// <see cref="Shutdown"/> from any thread ends whoever waits in it; <see cref="Dispose"/> only when nobody is in it any more.
/// Nothing is allocated for a frame.
/// </summary>
internal sealed class DataChannel : IDisposable
{
    private const int MostAreas = Limits.PagesPerFrame + 1;

    private readonly Socket _socket;
    private readonly int _descriptor;
    private readonly TimeSpan _frameDeadline;
    private readonly TimeProvider _time;

    // Guarded by _sendGate.
    private readonly Lock _sendGate = new();
    private readonly byte[] _out = GC.AllocateUninitializedArray<byte>(FrameHeader.Size + FrameHeader.SmallBody, pinned: true);
    private readonly SocketIoVectors _outAreas = new(MostAreas);
    private ulong _sendSequence;

    // Touched by the receiving thread only.
    private readonly byte[] _in = GC.AllocateUninitializedArray<byte>(FrameHeader.Size + FrameHeader.SmallBody, pinned: true);
    private readonly SocketIoVectors _inAreas = new(MostAreas);
    private ulong _receiveSequence;

    private long _bytesSent;
    private int _burst;
    private long _bytesReceived;
    private bool _disposed;

    /// <summary>Takes over the socket.</summary>
    public DataChannel(Socket socket, ChannelKind kind, int index, TransferSettings settings, TimeProvider time)
    {
        _socket = socket;
        Kind = kind;
        Index = index;
        _time = time;
        _frameDeadline = settings.FrameDeadline;
        socket.NoDelay = true;
        _descriptor = (int)socket.SafeHandle.DangerousGetHandle();
        SocketIo.MakeBlocking(_descriptor, settings.SliceMilliseconds);
        if (kind != ChannelKind.Bulk)
            return;
        SocketIo.PaceByModel(_descriptor); // a wanted page must not wait in a switch behind pages that nobody waits for
        if (settings.BulkBufferBytes > 0)
            socket.SendBufferSize = socket.ReceiveBufferSize = settings.BulkBufferBytes;
        if (settings.OneHostBufferBytes > 0 && StaysOnHost)
            socket.ReceiveBufferSize = settings.OneHostBufferBytes;
    }

    public ChannelKind Kind { get; }

    public int Index { get; }

    public long BytesSent => Volatile.Read(ref _bytesSent);

    public long BytesReceived => Volatile.Read(ref _bytesReceived);

    public string Name => Kind == ChannelKind.Bulk ? $"bulk connection {Index}" : $"{Kind} connection";

    /// <summary>For tests that damage what is on the wire.</summary>
    internal Socket RawSocket => _socket;

    /// <summary>Whether the peer has sent something that was not received yet.</summary>
    public bool HasInput => _socket.Available > 0;

    /// <summary>Whether the peer is on this host: nothing that is sent goes over a wire.</summary>
    public bool StaysOnHost
    {
        get
        {
            try
            {
                return _socket.RemoteEndPoint is IPEndPoint { Address: var peer } && (IPAddress.IsLoopback(peer) || peer.Equals((_socket.LocalEndPoint as IPEndPoint)?.Address));
            }
            catch (SocketException)
            {
                return false; // the peer is gone; who sends or receives next will be told
            }
        }
    }

    /// <summary>From now on at most about so many bytes are on their way: in the kernel here, and not acknowledged yet.</summary>
    public void KeepLittleUnderWay(int bytes)
    {
        _socket.SendBufferSize = bytes;
        KeepQueueShort(bytes / 2);
    }

    /// <summary>From now on the kernel holds back at most about so many bytes of this connection.</summary>
    public void KeepQueueShort(int bytes) => SocketIo.LimitUnsent(_descriptor, bytes);

    /// <summary>Bytes a second that the kernel sends at most; 0: no such limit.</summary>
    public void PaceAtMost(long bytesPerSecond) => SocketIo.PaceAtMost(_descriptor, bytesPerSecond);

    /// <summary>What the kernel sends at a time at most, whatever else is waiting; 0: as much as it likes. Any thread.</summary>
    public int BurstBytes
    {
        get => Volatile.Read(ref _burst);
        set => Volatile.Write(ref _burst, value);
    }

    /// <summary>Bytes that were sent and not acknowledged yet.</summary>
    public int OutstandingBytes => SocketIo.Outstanding(_descriptor);

    /// <summary>Returns when the peer has sent something, or after that time.</summary>
    public void AwaitInput(TimeSpan most) => SocketIo.AwaitInput(_descriptor, most);

    public bool TryReadPath(out PathReading path) => SocketIo.TryReadPath(_descriptor, out path);

    /// <summary>Sends a frame without pages. The body is copied; it has at most <see cref="FrameHeader.SmallBody"/> bytes.</summary>
    /// <param name="kind">What it is.</param>
    /// <param name="argument">As its kind says.</param>
    /// <param name="body">What it says.</param>
    /// <param name="more">Another frame follows at once, and this one may wait for it.</param>
    /// <exception cref="FabricException">unreachable; deadline-exceeded.</exception>
    public void Send(FrameKind kind, ulong argument = 0, ReadOnlySpan<byte> body = default, bool more = false)
    {
        lock (_sendGate)
        {
            body.CopyTo(_out.AsSpan(FrameHeader.Size));
            Seal(new FrameHeader(kind, 0, 0, body.Length, _sendSequence++, argument, 0));
            _outAreas.Clear();
            _outAreas.Add(Marshal.UnsafeAddrOfPinnedArrayElement(_out, 0), FrameHeader.Size + body.Length);
            SendAreas(more);
        }
    }

    /// <summary>Tells the peer why this end gives up, if no other frame is being sent just now. Never waits long, never throws.</summary>
    public void TrySayBye(FabricError error)
    {
        if (!_sendGate.TryEnter(TimeSpan.FromMilliseconds(50)))
            return;
        try
        {
            Span<byte> body = stackalloc byte[ErrorText.MaxSize];
            Send(FrameKind.Bye, 0, body[..ErrorText.Write(error, body)]);
        }
        catch (FabricException)
        {
            // It was an offer.
        }
        finally
        {
            _sendGate.Exit();
        }
    }

    /// <summary>Sends the pages of a table straight from <paramref name="memory"/>, without a copy.</summary>
    /// <exception cref="FabricException">unreachable; deadline-exceeded.</exception>
    public void SendPages(PageTableBuilder table, nint memory, int pageSize, PageFlags flags, ulong round)
    {
        lock (_sendGate)
        {
            BeginPages(table, table.DataPages * pageSize, flags, round);
            for (int i = 0; i < table.Runs; i++)
            {
                PageRun run = table.Run(i, out bool zero);
                if (!zero)
                    _outAreas.Add(memory + (nint)(run.First * pageSize), (long)run.Count * pageSize);
            }

            SendAreas();
        }
    }

    /// <summary>Sends a table whose pages were copied elsewhere, as its packing says.</summary>
    /// <exception cref="FabricException">unreachable; deadline-exceeded.</exception>
    public void SendCopies(PageTableBuilder table, nint data, int length, PageFlags flags, ulong round)
    {
        lock (_sendGate)
        {
            BeginPages(table, length, flags, round);
            _outAreas.Add(data, length);
            SendAreas();
        }
    }

    /// <summary>
    /// Waits for the next frame and reads its header and its body; of a Pages frame only the table: its data follows with
    /// <see cref="ReceiveData"/>. The span is valid until the next call.
    /// </summary>
    /// <param name="silence">How long nothing at all may come.</param>
    /// <exception cref="FabricException">unreachable: closed or silent; deadline-exceeded: a frame that trickles; malformed.</exception>
    public FrameHeader Receive(TimeSpan silence, out ReadOnlySpan<byte> body)
    {
        nint buffer = Marshal.UnsafeAddrOfPinnedArrayElement(_in, 0);
        _inAreas.Clear();
        _inAreas.Add(buffer, FrameHeader.Size);
        ReceiveAreas(silence);
        if (!FrameHeader.TryDecode(_in, out FrameHeader header, out FabricError? error))
            throw new FabricException(error);
        if (header.Sequence != _receiveSequence++)
            throw Malformed($"frame {header.Sequence} where {_receiveSequence - 1} was due: one was lost or repeated");
        int follows = header.CheckedLength - FrameHeader.Size;
        if (follows > 0)
        {
            _inAreas.Clear();
            _inAreas.Add(buffer + FrameHeader.Size, follows);
            ReceiveAreas(_frameDeadline);
        }

        _in.AsSpan(FrameHeader.CheckOffset, 8).Clear();
        if (Xxh3.Hash64(buffer, header.CheckedLength) != header.Check)
            throw new FabricException(ErrorCodes.Corrupt, $"A {header.Kind} frame on the {Name} was damaged on its way: its checksum differs.");
        body = _in.AsSpan(FrameHeader.Size, follows);
        return header;
    }

    /// <summary>Reads the data of a Pages frame to where <paramref name="areas"/> point.</summary>
    /// <exception cref="FabricException">unreachable; deadline-exceeded.</exception>
    public void ReceiveData(SocketIoVectors areas)
    {
        if (areas.Bytes > 0)
            Receive(areas, _frameDeadline);
    }

    /// <summary>Ends the conversation in both directions; who waits in it is woken with an error. Any thread, any number of times.</summary>
    public void Shutdown()
    {
        try
        {
            _socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The peer was faster.
        }
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Shutdown();
        _socket.Dispose();
    }

    internal FabricException Malformed(string what) => new(ErrorCodes.Malformed, $"The peer sent {what}, on the {Name}.");

    private void BeginPages(PageTableBuilder table, int dataLength, PageFlags flags, ulong round)
    {
        int length = table.TableLength;
        table.Write(_out.AsSpan(FrameHeader.Size, length));
        Seal(new FrameHeader(FrameKind.Pages, (byte)flags, length, length + dataLength, _sendSequence++, round, 0));
        _outAreas.Clear();
        _outAreas.Add(Marshal.UnsafeAddrOfPinnedArrayElement(_out, 0), FrameHeader.Size + length);
    }

    // Writes the header with its check in front of what is already in the buffer.
    private void Seal(FrameHeader header)
    {
        header.Write(_out);
        ulong check = Xxh3.Hash64(Marshal.UnsafeAddrOfPinnedArrayElement(_out, 0), header.CheckedLength);
        (header with { Check = check }).Write(_out);
    }

    private void SendAreas(bool more = false)
    {
        long bytes = _outAreas.Bytes;
        long began = _time.GetTimestamp();
        while (_outAreas.Bytes > 0)
        {
            long moved = BurstBytes is > 0 and var burst ? SocketIo.SendBurst(_descriptor, _outAreas, burst) : SocketIo.Send(_descriptor, _outAreas, more);
            if (moved < 0 && moved is not (-Errno.TryAgain or -Errno.Interrupted))
                throw Broken(-moved);
            if (_outAreas.Bytes > 0 && _time.GetElapsedTime(began) > _frameDeadline)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The peer does not take data on the {Name}: {_outAreas.Bytes} bytes of a frame are left after {_frameDeadline.TotalSeconds:0} s.");
        }

        Interlocked.Add(ref _bytesSent, bytes);
    }

    private void ReceiveAreas(TimeSpan silence) => Receive(_inAreas, silence);

    private void Receive(SocketIoVectors areas, TimeSpan deadline)
    {
        long bytes = areas.Bytes;
        long began = _time.GetTimestamp();
        while (areas.Bytes > 0)
        {
            long moved = SocketIo.Receive(_descriptor, areas);
            if (moved == 0)
                throw new FabricException(ErrorCodes.Unreachable, $"The {Name} was closed by the peer or broke.");
            if (moved < 0 && moved is not (-Errno.TryAgain or -Errno.Interrupted))
                throw Broken(-moved);
            if (moved > 0 && areas.Bytes == bytes - moved && deadline > _frameDeadline)
                deadline = _frameDeadline + _time.GetElapsedTime(began);
            if (areas.Bytes > 0 && _time.GetElapsedTime(began) > deadline)
            {
                throw areas.Bytes == bytes
                    ? new FabricException(ErrorCodes.Unreachable, $"Nothing came on the {Name} for {deadline.TotalSeconds:0.#} s.")
                    : new FabricException(ErrorCodes.DeadlineExceeded, $"A frame on the {Name} did not end within {_frameDeadline.TotalSeconds:0.#} s.");
            }
        }

        Interlocked.Add(ref _bytesReceived, bytes);
    }

    private FabricException Broken(long errno) =>
        new(ErrorCodes.Unreachable, $"The {Name} broke: {Marshal.GetPInvokeErrorMessage((int)errno)} (errno {errno}).");
}
