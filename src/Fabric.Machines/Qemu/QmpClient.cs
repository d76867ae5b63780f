// QEMU's machine protocol: JSON objects, one a line, over a Unix socket.
//
//   QEMU                                   this client
//     | {"QMP": {..., "capabilities": []}}    |   greeting; a second client of the same QEMU never gets one
//     |<-- {"execute": "qmp_capabilities"} ---|   oob enabled where offered
//     |--- {"return": {}} ------------------->|
//     |<-- {"execute": C, "id": N} -----------|   any number under way; QEMU answers in order, except out-of-band ones
//     |--- {"event": ...} ------------------->|   at any time
//     |--- {"return"|"error": ..., "id": N} ->|
//
// Who touches what: callers register an entry in _pending (_gate), then write (_writer, one at a time). Only the reader takes lines, and
// it alone completes entries. The reader is a thread of its own that blocks in recv, and writes are plain sends: the switch-over waits for these
// answers, and on a busy host each thread that an answer must wake on its way costs as much as QEMU's own work. A line that is no such object, or too long, breaks the connection: all callers get the
// same error and the process goes on. A late answer to an abandoned call finds no entry and is dropped.
using System.Buffers;
using System.Net.Sockets;
using System.Text.Json;
using Fabric.Core;

namespace Fabric.Machines.Qemu;

/// <summary>Something that QEMU reported by itself; <paramref name="At"/>: when, by the wall clock.</summary>
internal readonly record struct QmpEvent(string Name, JsonElement Data, DateTimeOffset? At = null);

/// <summary>One connection to one QEMU. Calls may overlap. A broken connection stays broken: make a new one.</summary>
internal sealed class QmpClient : IDisposable
{
    private const int PendingMost = 64;
    private const int FirstBufferBytes = 16 * 1024;
    private const int ReaderStackBytes = 256 * 1024;

    private readonly Socket _socket;
    private readonly TimeProvider _time;
    private readonly Action<QmpEvent> _onEvent;
    private readonly int _lineBytesMost;
    private readonly Lock _gate = new();
    private readonly Dictionary<long, Call> _pending = [];
    private readonly Lock _writer = new();
    private readonly TaskCompletionSource<JsonElement> _greeting = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Thread? _reader;
    private FabricException? _broken;
    private long _lastId;
    private bool _outOfBand;
    private int _disposed;

    private QmpClient(Socket socket, TimeProvider time, Action<QmpEvent> onEvent, int lineBytesMost)
    {
        _socket = socket;
        _time = time;
        _onEvent = onEvent;
        _lineBytesMost = lineBytesMost;
    }

    /// <summary>True once the connection can no longer be used.</summary>
    internal bool IsBroken => Volatile.Read(ref _broken) is not null;

    /// <summary>Connects, waits for the greeting and negotiates.</summary>
    /// <param name="onEvent">Called on the reader's thread for each event, in order; must return at once and not throw.</param>
    /// <param name="lineBytesMost">Longest line that is accepted.</param>
    /// <exception cref="FabricException">unreachable: nobody listens; conflict: no greeting came; machine-failed: it is not QMP.</exception>
    internal static async Task<QmpClient> ConnectAsync(
        string path, TimeSpan deadline, TimeProvider time, Action<QmpEvent> onEvent, CancellationToken cancellation, int lineBytesMost = Limits.QmpLineBytes)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        var client = new QmpClient(socket, time, onEvent, lineBytesMost);
        try
        {
            // Bounds the connect too: it would block while another client waits in QEMU's backlog of one.
            socket.SendTimeout = Math.Max(1, (int)deadline.TotalMilliseconds);
            await Task.Run(() => socket.Connect(new UnixDomainSocketEndPoint(path)), cancellation);
            client._reader = new Thread(client.Read, maxStackSize: ReaderStackBytes) { IsBackground = true, Name = "fabric-qmp" };
            client._reader.Start();
            await client.NegotiateAsync(path, deadline, cancellation);
            return client;
        }
        catch (SocketException error)
        {
            client.Dispose();
            if (error.SocketErrorCode is SocketError.WouldBlock or SocketError.TimedOut or SocketError.TryAgain)
                throw NoGreeting(path, deadline, error);
            throw new FabricException(ErrorCodes.Unreachable, $"QMP at {path}: {error.Message}", cause: error);
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    /// <summary>Executes a command and returns its result.</summary>
    /// <param name="arguments">Writes the members of the arguments object; null where there are none.</param>
    /// <param name="outOfBand">Asks QEMU to run it beside the main loop, for the few commands that allow it, when it was negotiated.</param>
    /// <exception cref="FabricException">machine-failed: QEMU refused, or the connection broke; deadline-exceeded: no answer, outcome unknown.</exception>
    internal async ValueTask<JsonElement> ExecuteAsync(
        string command, Action<Utf8JsonWriter>? arguments, TimeSpan deadline, CancellationToken cancellation, bool outOfBand = false)
    {
        var call = new Call(command);
        long id = Register(call);
        try
        {
            Send(Encode(command, arguments, id, outOfBand && _outOfBand));
            return await call.Completion.Task.WaitAsync(deadline, _time, cancellation);
        }
        catch (TimeoutException error)
        {
            throw new FabricException(
                ErrorCodes.DeadlineExceeded, $"QMP '{command}' was not answered within {deadline.TotalSeconds:0.#} s; its outcome is unknown.", "QEMU's main loop may be waiting for a disk or for a missing page.", error);
        }
        finally
        {
            lock (_gate)
                _pending.Remove(id);
        }
    }

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        Break(new FabricException(ErrorCodes.Cancelled, "The QMP connection was closed by this agent."));
        try
        {
            // Ends the reader's recv.
            _socket.Shutdown(SocketShutdown.Both);
        }
        catch (SocketException)
        {
            // It was never connected, or is closed already.
        }

        _reader?.Join();
        _socket.Dispose();
    }

    private async Task NegotiateAsync(string path, TimeSpan deadline, CancellationToken cancellation)
    {
        JsonElement greeting;
        try
        {
            greeting = await _greeting.Task.WaitAsync(deadline, _time, cancellation);
        }
        catch (TimeoutException error)
        {
            throw NoGreeting(path, deadline, error);
        }

        bool offered = greeting.TryGetProperty("capabilities", out var capabilities)
            && capabilities.ValueKind == JsonValueKind.Array
            && capabilities.EnumerateArray().Any(c => c.ValueKind == JsonValueKind.String && c.ValueEquals("oob"));
        await ExecuteAsync("qmp_capabilities", offered ? EnableOutOfBand : null, deadline, cancellation);
        _outOfBand = offered;

        static void EnableOutOfBand(Utf8JsonWriter writer)
        {
            writer.WriteStartArray("enable");
            writer.WriteStringValue("oob");
            writer.WriteEndArray();
        }
    }

    private long Register(Call call)
    {
        lock (_gate)
        {
            if (_broken is { } broken)
                throw Failed(call.Command, broken);
            if (_pending.Count >= PendingMost)
                throw new FabricException(ErrorCodes.Exhausted, $"{PendingMost} QMP commands are under way; '{call.Command}' was not sent.");
            long id = ++_lastId;
            _pending.Add(id, call);
            return id;
        }
    }

    /// <summary>The socket's buffer takes a command at once; a peer that reads nothing makes this fail at the send timeout and breaks the connection.</summary>
    private void Send(ReadOnlySpan<byte> line)
    {
        lock (_writer)
        {
            try
            {
                while (line.Length > 0)
                    line = line[_socket.Send(line)..];
            }
            catch (Exception error) when (error is SocketException or ObjectDisposedException)
            {
                Break(new FabricException(ErrorCodes.MachineFailed, $"The QMP connection is gone: {error.Message}", cause: error));
            }
        }
    }

    private static ReadOnlySpan<byte> Encode(string command, Action<Utf8JsonWriter>? arguments, long id, bool outOfBand)
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString(outOfBand ? "exec-oob" : "execute", command);
            writer.WriteNumber("id", id);
            if (arguments is not null)
            {
                writer.WriteStartObject("arguments");
                arguments(writer);
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        buffer.Write("\n"u8);
        return buffer.WrittenSpan;
    }

    private void Read()
    {
        byte[] buffer = new byte[FirstBufferBytes];
        int filled = 0;
        try
        {
            while (true)
            {
                if (filled == buffer.Length)
                    Array.Resize(ref buffer, Grown(buffer.Length));
                int read = _socket.Receive(buffer.AsSpan(filled));
                if (read == 0)
                    throw new FabricException(ErrorCodes.MachineFailed, "QEMU closed the QMP connection.");
                int scanned = filled;
                filled += read;
                filled = TakeLines(buffer, scanned, filled);
            }
        }
        catch (FabricException error)
        {
            Break(error);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            Break(new FabricException(ErrorCodes.MachineFailed, $"The QMP connection is gone: {error.Message}", cause: error));
        }
    }

    private int Grown(int length) => length < _lineBytesMost
        ? (int)Math.Min((long)length * 2, _lineBytesMost)
        : throw new FabricException(ErrorCodes.MachineFailed, $"A QMP line has more than {_lineBytesMost} bytes; the connection was dropped.");

    /// <summary>Handles the whole lines in the buffer, moves the rest to its beginning and returns the rest's length.</summary>
    private int TakeLines(byte[] buffer, int scanned, int filled)
    {
        int start = 0;
        int newline;
        while ((newline = buffer.AsSpan(scanned, filled - scanned).IndexOf((byte)'\n')) >= 0)
        {
            int end = scanned + newline;
            Handle(buffer.AsMemory(start, end - start));
            start = scanned = end + 1;
        }

        buffer.AsSpan(start, filled - start).CopyTo(buffer);
        return filled - start;
    }

    private void Handle(ReadOnlyMemory<byte> line)
    {
        JsonElement message;
        try
        {
            using var document = JsonDocument.Parse(line);
            message = document.RootElement.Clone();
        }
        catch (JsonException error)
        {
            throw NotQmp(line, error);
        }

        if (message.ValueKind != JsonValueKind.Object)
            throw NotQmp(line, null);
        if (message.TryGetProperty("QMP", out var greeting) && greeting.ValueKind == JsonValueKind.Object)
            _greeting.TrySetResult(greeting);
        else if (message.TryGetProperty("event", out var name) && name.ValueKind == JsonValueKind.String)
            _onEvent(new QmpEvent(name.GetString()!, message.TryGetProperty("data", out var data) ? data : default, QmpJson.Moment(message, "timestamp")));
        else if (message.TryGetProperty("return", out var result))
            Find(message, line)?.Completion.TrySetResult(result);
        else if (message.TryGetProperty("error", out var error))
            Refuse(Find(message, line), error);
        else
            throw NotQmp(line, null);
    }

    /// <summary>The call that a message answers; null for one that was given up.</summary>
    private Call? Find(JsonElement message, ReadOnlyMemory<byte> line)
    {
        long number = QmpJson.Number(message, "id") ?? throw NotQmp(line, null);
        lock (_gate)
        {
            return number > _lastId ? throw NotQmp(line, null) : _pending.GetValueOrDefault(number);
        }
    }

    private static void Refuse(Call? call, JsonElement error)
    {
        string text = QmpJson.Text(error, "desc") ?? "no reason given";
        call?.Completion.TrySetException(new FabricException(ErrorCodes.MachineFailed, $"QEMU refused '{call.Command}': {MachineFiles.Printable(text)}"));
    }

    private void Break(FabricException error)
    {
        Call[] abandoned;
        lock (_gate)
        {
            if (_broken is not null)
                return;
            Volatile.Write(ref _broken, error);
            abandoned = [.. _pending.Values];
        }

        _greeting.TrySetException(error);
        // Nobody may be waiting for the greeting any more; its error is theirs to see only if they are.
        _ = _greeting.Task.Exception;
        foreach (var call in abandoned)
            call.Completion.TrySetException(Failed(call.Command, error));
    }

    private static FabricException NoGreeting(string path, TimeSpan deadline, Exception cause) => new(
        ErrorCodes.Conflict, $"QEMU at {path} sent no QMP greeting within {deadline.TotalSeconds:0.#} s.", "It greets one client at a time: another agent holds the machine, or QEMU's main loop stands.", cause);

    private static FabricException Failed(string command, FabricException cause) =>
        new(ErrorCodes.MachineFailed, $"QMP '{command}': {cause.Error.Message}", cause: cause);

    private static FabricException NotQmp(ReadOnlyMemory<byte> line, Exception? cause)
    {
        string begin = System.Text.Encoding.UTF8.GetString(line.Span[..Math.Min(line.Length, 160)]);
        return new FabricException(ErrorCodes.MachineFailed, $"What answers at the QMP socket does not speak QMP: '{Label.Shorten(begin)}'.", cause: cause);
    }

    private sealed record Call(string Command)
    {
        internal TaskCompletionSource<JsonElement> Completion { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
