// A TCP connection from this process into a test guest (guests/src/net.c), and how long nothing came out of it. Each stream has threads of its own with blocking calls, so
// that what is measured is the network and the guest, not this process's thread pool.
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Fabric.Core;

namespace Fabric.Benchmarks.ClientGap;

/// <summary>
/// One connection that lives through many moves. The numbers that come must be unbroken: a guest that was set back, ran twice or was started anew cannot send them so.
/// </summary>
public sealed class GuestStream : ClientStream
{
    /// <summary>Numbers that an echo may be behind before the client waits.</summary>
    public const int WindowMost = 4096;

    /// <summary>What the test guest serves.</summary>
    public static readonly IReadOnlyList<StreamKind> Kinds = [StreamKind.Ticks, StreamKind.Echo, StreamKind.Ask];

    private const int EchoPort = 7000;
    private const int TickPort = 7001;
    private const int NumberBytes = 8;

    private static readonly TimeSpan ConnectDeadline = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan SilenceMost = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);

    private readonly Socket _socket;
    private readonly SemaphoreSlim _window;
    private readonly ManualResetEventSlim _ends = new();
    private readonly List<Thread> _threads = [];

    private GuestStream(StreamKind kind, Socket socket, TimeProvider time)
        : base(kind, time)
    {
        _socket = socket;
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

    protected override void Dispose(bool disposing)
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
        Count(numbers);
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

    private void Fail(Exception error) => Fail(_ends.IsSet ? "It was closed." : error.Message);
}
