using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Fabric.Core;

namespace Fabric.Benchmarks.Qemu;

/// <summary>
/// As much of QEMU's machine protocol as the comparison needs: one command at a time, events to a callback. The read loop alone
/// takes lines; <see cref="ExecuteAsync"/> belongs to one caller at a time.
/// </summary>
internal sealed class QmpClient : IAsyncDisposable
{
    private readonly Socket _socket;
    private readonly StreamReader _reader;
    private readonly TimeProvider _time;
    private readonly Action<string, JsonElement> _onEvent;
    private readonly CancellationTokenSource _closing = new();
    private TaskCompletionSource<JsonElement> _answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _reading = Task.CompletedTask;

    private QmpClient(Socket socket, TimeProvider time, Action<string, JsonElement> onEvent)
    {
        _socket = socket;
        _time = time;
        _onEvent = onEvent;
        _reader = new StreamReader(new NetworkStream(socket), Encoding.UTF8);
    }

    /// <exception cref="FabricException">unreachable: nobody listens at the path.</exception>
    public static async Task<QmpClient> ConnectAsync(string path, TimeProvider time, Action<string, JsonElement> onEvent, CancellationToken cancellation)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation);
        }
        catch (SocketException error)
        {
            socket.Dispose();
            throw new FabricException(ErrorCodes.Unreachable, $"QMP at {path}: {error.Message}", cause: error);
        }

        var client = new QmpClient(socket, time, onEvent);
        client._reading = client.ReadAsync();
        await client.ExecuteAsync("qmp_capabilities", "{}", TimeSpan.FromSeconds(10), cancellation);
        return client;
    }

    /// <param name="arguments">A JSON object.</param>
    /// <exception cref="FabricException">machine-failed: QEMU refused, or is gone; deadline-exceeded: it did not answer.</exception>
    public async Task<JsonElement> ExecuteAsync(string command, string arguments, TimeSpan deadline, CancellationToken cancellation)
    {
        var answer = new TaskCompletionSource<JsonElement>(TaskCreationOptions.RunContinuationsAsynchronously);
        Volatile.Write(ref _answer, answer);
        if (_reading.IsCompleted)
            throw new FabricException(ErrorCodes.MachineFailed, $"QMP '{command}': QEMU is gone.");
        byte[] line = Encoding.UTF8.GetBytes($"{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n");
        try
        {
            await _socket.SendAsync(line, cancellation);
            var message = await answer.Task.WaitAsync(deadline, _time, cancellation);
            return message.TryGetProperty("return", out var result)
                ? result
                : throw new FabricException(ErrorCodes.MachineFailed, $"QEMU refused '{command}': {message.GetProperty("error").GetProperty("desc").GetString()}");
        }
        catch (TimeoutException error)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"QMP '{command}' was not answered within {deadline.TotalSeconds:0} s.", cause: error);
        }
        catch (SocketException error)
        {
            throw new FabricException(ErrorCodes.MachineFailed, $"QMP '{command}': {error.Message}", cause: error);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _closing.CancelAsync();
        _socket.Dispose();
        await _reading;
        _reader.Dispose();
        _closing.Dispose();
    }

    private async Task ReadAsync()
    {
        string ending = "QEMU closed the connection.";
        try
        {
            while (await _reader.ReadLineAsync(_closing.Token) is { } line)
            {
                using var document = JsonDocument.Parse(line);
                var message = document.RootElement.Clone();
                if (message.TryGetProperty("event", out var name))
                    _onEvent(name.GetString() ?? "", message.TryGetProperty("data", out var data) ? data : default);
                else if (message.TryGetProperty("return", out _) || message.TryGetProperty("error", out _))
                    Volatile.Read(ref _answer).TrySetResult(message);
            }
        }
        catch (Exception error) when (error is IOException or SocketException or ObjectDisposedException or OperationCanceledException or JsonException)
        {
            ending = error.Message;
        }

        Volatile.Read(ref _answer).TrySetException(new FabricException(ErrorCodes.MachineFailed, $"The QMP connection ended: {ending}"));
    }
}
