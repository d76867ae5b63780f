using System.Text.Json;
using Fabric.Core;

namespace Fabric.Machines.Qemu;

/// <summary>
/// The QMP connection of one machine, made again when it broke: QEMU accepts the next client as soon as the last one is gone. A broken call is
/// never repeated by itself (its outcome is unknown); the next one finds a fresh connection.
/// </summary>
internal sealed class QmpSession(string path, QemuOptions options, TimeProvider time, Action<QmpEvent> onEvent) : IDisposable
{
    private readonly SemaphoreSlim _connecting = new(1, 1);
    private QmpClient? _client;

    /// <summary>Waits until QEMU has made its socket and greets, as long as <paramref name="keepTrying"/> says so.</summary>
    internal async Task OpenAsync(TimeSpan deadline, Func<bool> keepTrying, CancellationToken cancellation)
    {
        long began = time.GetTimestamp();
        while (true)
        {
            var left = deadline - time.GetElapsedTime(began);
            try
            {
                _client = await QmpClient.ConnectAsync(path, left > TimeSpan.Zero ? left : TimeSpan.Zero, time, onEvent, cancellation);
                return;
            }
            catch (FabricException error) when (error.Error.Code == ErrorCodes.Unreachable && left > TimeSpan.Zero && keepTrying())
            {
                await Task.Delay(TimeSpan.FromMilliseconds(2), time, cancellation);
            }
        }
    }

    internal async ValueTask<JsonElement> ExecuteAsync(
        string command, Action<Utf8JsonWriter>? arguments, TimeSpan deadline, CancellationToken cancellation)
    {
        var client = await ClientAsync(cancellation);
        return await client.ExecuteAsync(command, arguments, deadline, cancellation);
    }

    /// <summary>The connection, for commands whose order matters: on one connection QEMU carries them out in the order in which they were begun. It may break at any time and is then not made again.</summary>
    internal async ValueTask<QmpClient> ClientAsync(CancellationToken cancellation) =>
        _client is { IsBroken: false } open ? open : await ReconnectAsync(cancellation);

    public void Dispose()
    {
        _client?.Dispose();
        _connecting.Dispose();
    }

    private async Task<QmpClient> ReconnectAsync(CancellationToken cancellation)
    {
        await _connecting.WaitAsync(cancellation);
        try
        {
            if (_client is { IsBroken: false } open)
                return open;
            if (_client is { } broken)
            {
                _client = null;
                broken.Dispose();
            }

            return _client = await QmpClient.ConnectAsync(path, options.CommandDeadline, time, onEvent, cancellation);
        }
        finally
        {
            _connecting.Release();
        }
    }
}
