// A TCP connection from this process into a test guest (guests/src/net.c), and how long nothing came out of it. Each stream has threads of its own with blocking calls, so
// that what is measured is the network and the guest, not this process's thread pool.
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Fabric.Core;

namespace Fabric.Benchmarks.ClientGap;

/// <summary>What goes over a stream.</summary>
public enum StreamKind
{
    /// <summary>The guest sends a number every millisecond; the client only listens.</summary>
    Ticks,

    /// <summary>The client sends a number every millisecond and gets it back; up to <see cref="GuestStream.WindowMost"/> are under way.</summary>
    Echo,

    /// <summary>The client sends a number, waits for it to come back, and sends the next one a millisecond later: one frame is under way.</summary>
    Ask,
}

/// <summary>
/// One connection that lives through many moves. The numbers that come must be unbroken: a guest that was set back, ran twice or was started anew cannot send them so.
/// </summary>
public sealed class GuestStream : IDisposable
{
    /// <summary>Numbers that an echo may be behind before the client waits.</summary>
    public const int WindowMost = 4096;

    private const int EchoPort = 7000;
    private const int TickPort = 7001;
    private const int NumberBytes = 8;

    private static readonly TimeSpan ConnectDeadline = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan SilenceMost = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);

    private readonly Lock _gate = new();
    private readonly TimeProvider _time;
    private readonly Socket _socket;
    private readonly SemaphoreSlim _window;
    private readonly ManualResetEventSlim _ends = new();
    private readonly List<Thread> _threads = [];
    private long _received; // under _gate, as the next three
    private long _lastAt;
    private TimeSpan _longest;
    private string? _failure;

    private GuestStream(StreamKind kind, Socket socket, TimeProvider time)
    {
        Kind = kind;
        _socket = socket;
        _time = time;
        _lastAt = time.GetTimestamp();
        _window = new SemaphoreSlim(kind == StreamKind.Ask ? 1 : WindowMost);
        Start(Read);
        if (kind != StreamKind.Ticks)
            Start(Write);

        void Start(ThreadStart body)
        {
            var thread = new Thread(body) { IsBackground = true, Name = $"{kind} {body.Method.Name}", Priority = ThreadPriority.AboveNormal };
            _threads.Add(thread);
            thread.Start();
        }
    }

    public StreamKind Kind { get; }

    /// <summary>Numbers that came.</summary>
    public long Received
    {
        get
        {
            lock (_gate)
                return _received;
        }
    }

    /// <summary>Why the stream is over, or null while it goes on.</summary>
    public string? Failure
    {
        get
        {
            lock (_gate)
                return _failure;
        }
    }

    /// <summary>The longest time without a number since the last <see cref="Forget"/>, one that still lasts included.</summary>
    public TimeSpan LongestGap
    {
        get
        {
            lock (_gate)
            {
                var now = _time.GetElapsedTime(_lastAt);
                return now > _longest ? now : _longest;
            }
        }
    }

    /// <summary>Tries until the guest serves or the deadline has passed.</summary>
    /// <exception cref="FabricException">unreachable: it did not serve.</exception>
    public static async Task<GuestStream> OpenAsync(StreamKind kind, IPAddress guest, TimeSpan within, TimeProvider time, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(time);
        for (long began = time.GetTimestamp(); ;)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            using var deadline = new CancellationTokenSource(ConnectDeadline, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            try
            {
                await socket.ConnectAsync(new IPEndPoint(guest, kind == StreamKind.Ticks ? TickPort : EchoPort), either.Token);
                socket.ReceiveTimeout = socket.SendTimeout = (int)SilenceMost.TotalMilliseconds;
                return new GuestStream(kind, socket, time);
            }
            catch (Exception absent) when (absent is SocketException || (absent is OperationCanceledException && !cancellation.IsCancellationRequested))
            {
                socket.Dispose();
                if (time.GetElapsedTime(began) > within)
                    throw new FabricException(ErrorCodes.Unreachable, $"The guest at {guest} did not serve within {within.TotalSeconds:0} s: {absent.Message}", cause: absent);
            }

            await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellation);
        }
    }

    /// <summary>Begins a new measurement.</summary>
    public void Forget()
    {
        lock (_gate)
            (_longest, _lastAt) = (TimeSpan.Zero, _time.GetTimestamp());
    }

    public void Dispose()
    {
        _ends.Set();
        _socket.Dispose();
        _window.Release();
        _threads.ForEach(static t => t.Join());
        _window.Dispose();
        _ends.Dispose();
    }

    private void Read()
    {
        byte[] buffer = new byte[NumberBytes * WindowMost];
        int filled = 0;
        ulong expected = 1;
        try
        {
            while (true)
            {
                int got = _socket.Receive(buffer, filled, buffer.Length - filled, SocketFlags.None);
                if (got == 0)
                    throw new InvalidDataException("The guest closed the connection.");
                filled += got;
                int whole = filled / NumberBytes;
                for (int i = 0; i < whole; i++, expected++)
                {
                    ulong number = BinaryPrimitives.ReadUInt64LittleEndian(buffer.AsSpan(i * NumberBytes));
                    if (number != expected)
                        throw new InvalidDataException($"The guest sent {number} where {expected} had to come.");
                }

                buffer.AsSpan(whole * NumberBytes, filled - whole * NumberBytes).CopyTo(buffer);
                filled -= whole * NumberBytes;
                if (whole > 0)
                    Came(whole);
            }
        }
        catch (Exception error) when (error is SocketException or InvalidDataException or ObjectDisposedException)
        {
            Fail(error);
        }
    }

    private void Came(int numbers)
    {
        lock (_gate)
        {
            var gap = _time.GetElapsedTime(_lastAt);
            if (gap > _longest)
                _longest = gap;
            _lastAt = _time.GetTimestamp();
            _received += numbers;
        }

        if (Kind != StreamKind.Ticks)
            _window.Release(numbers);
    }

    private void Write()
    {
        byte[] bytes = new byte[NumberBytes];
        try
        {
            for (ulong number = 1; ; number++)
            {
                if (!_window.Wait(SilenceMost) || _ends.IsSet)
                    return;
                BinaryPrimitives.WriteUInt64LittleEndian(bytes, number);
                _socket.Send(bytes);
                _ends.Wait(Pause);
            }
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            Fail(error);
        }
    }

    private void Fail(Exception error)
    {
        lock (_gate)
            _failure ??= _ends.IsSet ? "It was closed." : error.Message;
    }
}
