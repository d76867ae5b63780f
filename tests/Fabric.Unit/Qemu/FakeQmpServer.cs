using System.Net.Sockets;
using System.Text;

namespace Fabric.Unit.Qemu;

/// <summary>
/// A QMP server that says exactly what its script says. One client; the script runs on its own task, and its failure is thrown at disposal.
/// </summary>
internal sealed class FakeQmpServer : IAsyncDisposable
{
    internal const string Greeting = """{"QMP": {"version": {}, "capabilities": ["oob"]}}""";

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-unit-").FullName;
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource _end = new(TimeSpan.FromSeconds(60));
    private readonly Task _script;
    private StreamReader? _reader;
    private Socket? _peer;

    internal FakeQmpServer(Func<FakeQmpServer, Task> script)
    {
        Path = System.IO.Path.Combine(_directory, "qmp");
        _listener.Bind(new UnixDomainSocketEndPoint(Path));
        _listener.Listen(1);
        _script = Task.Run(async () =>
        {
            _peer = await _listener.AcceptAsync(_end.Token);
            _reader = new StreamReader(new NetworkStream(_peer));
            await script(this);
        });
    }

    internal string Path { get; }

    /// <summary>Greets and answers the negotiation.</summary>
    internal async Task GreetAsync()
    {
        await SayAsync(Greeting);
        await ReadAsync();
        await SayAsync("""{"return": {}, "id": 1}""");
    }

    internal async Task SayAsync(string line) => await SayRawAsync(Encoding.UTF8.GetBytes(line + "\r\n"));

    internal async Task SayRawAsync(ReadOnlyMemory<byte> bytes) => await _peer!.SendAsync(bytes, SocketFlags.None, _end.Token);

    internal async Task<string> ReadAsync() => await _reader!.ReadLineAsync(_end.Token) ?? throw new InvalidOperationException("The client closed.");

    /// <summary>Keeps the connection open until the test ends.</summary>
    internal Task HoldAsync() => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, _end.Token);

    internal void Close() => _peer!.Dispose();

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        try
        {
            await _script;
        }
        catch (Exception error) when (error is OperationCanceledException or SocketException or IOException)
        {
            // The test ended before its script did.
        }

        _peer?.Dispose();
        _listener.Dispose();
        _end.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}
