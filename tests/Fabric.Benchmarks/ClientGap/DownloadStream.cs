// A guest that is iPXE: firmware with a TCP of its own, in one loop that polls. Without KVM the destination's QEMU is busy for a tenth of a second with translating what a Linux guest runs,
// whoever moves it; of this guest it has little to translate, so that what its client waits for is the move.
//
//      iPXE                              DownloadServer, in a namespace that is neither host's
//       │──── GET /noise ─────────────────▶│
//       │◀─── bytes that do not compress ──│      the guest's memory: what is moved
//       │──── GET /numbers ───────────────▶│
//       │◀─── 1 ───────────────────────────│      DownloadStream: the next number goes a millisecond
//       │──── acknowledged ───────────────▶│      after the guest's TCP has acknowledged the last one
using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Fabric.Core;

namespace Fabric.Benchmarks.ClientGap;

/// <summary>Serves one guest: its memory's content, then the numbers.</summary>
public sealed class DownloadServer : IDisposable
{
    private const int RequestBytesMost = 4096;
    private const int ChunkBytes = 64 * 1024;
    private const int NumbersMost = 16 * 1024 * 1024;

    private readonly Random _noise = new(20261130);
    private readonly IPAddress _own;
    private readonly long _noiseBytes;
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

    public DownloadServer(IPAddress own, long noiseBytes)
    {
        (_own, _noiseBytes) = (own, noiseBytes);
        _listener.Bind(new IPEndPoint(own, 0));
        _listener.Listen(4);
    }

    private int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    /// <summary>
    /// What a guest's command line must say. iPXE takes all of it for commands; those before it, which are for Linux, fail, and this is what is done then.
    /// </summary>
    public string CommandsFor(IPAddress guest) => string.Create(
        CultureInfo.InvariantCulture,
        $"|| set net0/ip {guest} && set net0/netmask 255.255.255.0 && ifopen net0 && imgfetch http://{_own}:{Port}/noise && imgfetch http://{_own}:{Port}/numbers");

    /// <summary>Answers the guest until it asks for the numbers.</summary>
    /// <exception cref="FabricException">unreachable: it did not within the deadline.</exception>
    public async Task<DownloadStream> AcceptAsync(TimeSpan within, TimeProvider time, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(within, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            while (true)
            {
                if (await ServeAsync(await _listener.AcceptAsync(either.Token), either.Token) is { } guest)
                    return new DownloadStream(guest, time);
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.Unreachable, $"The guest did not download within {within.TotalSeconds:0} s.");
        }
    }

    public void Dispose() => _listener.Dispose();

    /// <summary>The connection on which the guest waits for numbers; null: it was closed, and the guest begins anew or the deadline comes.</summary>
    private async Task<Socket?> ServeAsync(Socket guest, CancellationToken cancellation)
    {
        Socket? unused = guest;
        try
        {
            while (await RequestAsync(guest, cancellation) is { } request)
            {
                bool numbers = request.StartsWith("GET /numbers ", StringComparison.Ordinal);
                await SayAsync(guest, numbers ? NumbersMost : _noiseBytes, cancellation);
                if (numbers)
                {
                    unused = null;
                    return guest;
                }

                await SendNoiseAsync(guest, cancellation);
            }
        }
        catch (SocketException)
        {
            // As if it had been closed.
        }
        finally
        {
            unused?.Dispose();
        }

        return null;
    }

    private async Task SendNoiseAsync(Socket guest, CancellationToken cancellation)
    {
        byte[] chunk = new byte[ChunkBytes];
        for (long left = _noiseBytes; left > 0; left -= ChunkBytes)
        {
            _noise.NextBytes(chunk);
            for (var rest = chunk.AsMemory(0, (int)Math.Min(left, ChunkBytes)); rest.Length > 0;)
                rest = rest[await guest.SendAsync(rest, cancellation)..];
        }
    }

    private static async Task SayAsync(Socket guest, long bytes, CancellationToken cancellation) => await guest.SendAsync(
        Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")), cancellation);

    private static async Task<string?> RequestAsync(Socket guest, CancellationToken cancellation)
    {
        byte[] bytes = new byte[RequestBytesMost];
        for (int filled = 0; filled < bytes.Length;)
        {
            int got = await guest.ReceiveAsync(bytes.AsMemory(filled), cancellation);
            if (got == 0)
                return null;
            filled += got;
            string text = Encoding.ASCII.GetString(bytes, 0, filled);
            if (text.EndsWith("\r\n\r\n", StringComparison.Ordinal))
                return text;
        }

        throw new FabricException(ErrorCodes.Corrupt, $"The guest's request has more than {RequestBytesMost} bytes.");
    }
}

/// <summary>The numbers, one at a time: what was not acknowledged is looked at every millisecond.</summary>
public sealed class DownloadStream : ClientStream
{
    private const int NumberBytes = 8;
    private const int ProtocolTcp = 6;
    private const int OptionTcpInfo = 11;

    /// <summary>Of <c>struct tcp_info</c>: eight bytes and four words stand before <c>tcpi_unacked</c>.</summary>
    private const int UnacknowledgedAt = 24;

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);

    private readonly Socket _guest;
    private readonly ManualResetEventSlim _ends = new();
    private readonly Thread _thread;

    internal DownloadStream(Socket guest, TimeProvider time)
        : base(StreamKind.Download, time)
    {
        _guest = guest;
        _guest.NoDelay = true;
        _thread = new Thread(Write) { IsBackground = true, Name = "Download", Priority = ThreadPriority.AboveNormal };
        _thread.Start();
    }

    protected override void Dispose(bool disposing)
    {
        _ends.Set();
        _thread.Join();
        _guest.Dispose();
        _ends.Dispose();
    }

    private void Write()
    {
        byte[] bytes = new byte[NumberBytes];
        try
        {
            for (ulong number = 1; !_ends.Wait(Pause); number++)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(bytes, number);
                _guest.Send(bytes);
                while (Unacknowledged())
                {
                    if (_ends.Wait(Pause))
                        return;
                }

                Count(1);
            }
        }
        catch (SocketException error)
        {
            Fail(error.Message);
        }
    }

    private bool Unacknowledged()
    {
        Span<byte> info = stackalloc byte[UnacknowledgedAt + sizeof(uint)];
        _guest.GetRawSocketOption(ProtocolTcp, OptionTcpInfo, info);
        return BinaryPrimitives.ReadUInt32LittleEndian(info[UnacknowledgedAt..]) > 0;
    }
}
