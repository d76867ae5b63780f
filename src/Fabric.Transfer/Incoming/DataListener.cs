using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer.Outgoing;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// The data port of a host. It lets in who knows a migration and its ticket, gives the connection to that migration's
/// <see cref="IncomingTransfer"/>, and closes everybody else. Whatever comes, the port stays open. At most
/// <see cref="MostHellos"/> connections are being greeted at a time, each for at most the hello deadline, each in a thread of its own (so that
/// silent connections starve nobody else's threads); others wait in the kernel's queue.
/// </summary>
public sealed class DataListener : IAsyncDisposable
{
    private const int MostHellos = 32;
    private const int Backlog = 256;

    private readonly ConcurrentDictionary<MigrationId, Registration> _registrations = new();
    private readonly SemaphoreSlim _hellos = new(MostHellos);
    private readonly CancellationTokenSource _ended = new();
    private readonly byte[] _nobodysTicket = RandomNumberGenerator.GetBytes(Ticket.Bytes);
    private readonly TransferSettings _settings;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Socket _socket;
    private readonly Task _loop;

    /// <param name="endpoint">Port 0 chooses a free one; see <see cref="Endpoint"/>.</param>
    /// <exception cref="FabricException">exhausted: the port is taken.</exception>
    public DataListener(IPEndPoint endpoint, TransferSettings settings, TimeProvider time, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        (_settings, _time, _logger) = (settings, time, logger);
        _socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            _socket.Bind(endpoint);
            _socket.Listen(Backlog);
        }
        catch (SocketException e)
        {
            _socket.Dispose();
            throw new FabricException(ErrorCodes.Exhausted, $"The data port {endpoint} cannot be opened: {e.Message}", "Is another agent running on this address?", e);
        }

        Endpoint = (IPEndPoint)_socket.LocalEndPoint!;
        _loop = AcceptLoopAsync();
    }

    public IPEndPoint Endpoint { get; }

    /// <summary>Lets the ticket's bearer into the transfer, until the result is disposed.</summary>
    /// <exception cref="FabricException">already-exists; invalid-argument: not a ticket.</exception>
    public IDisposable Register(MigrationId migration, Ticket ticket, IncomingTransfer transfer)
    {
        ArgumentNullException.ThrowIfNull(ticket);
        ArgumentNullException.ThrowIfNull(transfer);
        Registration registration = new(this, migration, OutgoingConnector.TicketBytes(ticket), transfer);
        return _registrations.TryAdd(migration, registration)
            ? registration
            : throw new FabricException(ErrorCodes.AlreadyExists, $"Migration {migration} is registered at the data port already.");
    }

    public async ValueTask DisposeAsync()
    {
        await _ended.CancelAsync();
        _socket.Dispose();
        await _loop;
        // Whoever is still being greeted ends within the hello deadline; the last one returns the last slot.
        for (int i = 0; i < MostHellos; i++)
            await _hellos.WaitAsync();
        _hellos.Dispose();
        _ended.Dispose();
    }

    private async Task AcceptLoopAsync()
    {
        while (!_ended.IsCancellationRequested)
        {
            bool greeting = false;
            try
            {
                await _hellos.WaitAsync(_ended.Token);
                greeting = true;
                Socket socket = await _socket.AcceptAsync(_ended.Token);
                new Thread(() => Greet(socket)) { IsBackground = true, Name = "data-hello" }.Start();
                greeting = false;
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
            {
                // The port closes.
            }
            catch (Exception e)
            {
                // Out of descriptors or threads, or a connection that died in the queue: the next may do better, a little later.
                _logger.LogWarning(e, "The data port could not take a connection");
                await Task.Delay(TimeSpan.FromMilliseconds(100), _time, CancellationToken.None);
            }
            finally
            {
                if (greeting)
                    _hellos.Release();
            }
        }
    }

    private void Greet(Socket socket)
    {
        bool keep = false;
        bool held = false;
        string peer = "an unknown peer";
        try
        {
            peer = socket.RemoteEndPoint?.ToString() ?? peer;
            // A transfer that ends while its connection is being welcomed closes the socket; the descriptor's number must not be reused meanwhile.
            socket.SafeHandle.DangerousAddRef(ref held);
            keep = Admit(socket, peer);
        }
        catch (Exception e)
        {
            // Nothing that a stranger does may end the process.
            _logger.LogInformation("Data connection from {Peer} closed: {Reason}", peer, e.Message);
        }
        finally
        {
            if (held)
                socket.SafeHandle.DangerousRelease();
            if (!keep)
                socket.Dispose();
            _hellos.Release();
        }
    }

    private bool Admit(Socket socket, string peer)
    {
        int descriptor = (int)socket.SafeHandle.DangerousGetHandle();
        SocketIo.MakeBlocking(descriptor, _settings.SliceMilliseconds);
        byte[] buffer = GC.AllocateArray<byte>(Hello.Size, pinned: true);
        int length = ReadHello(descriptor, buffer);
        if (!Hello.TryDecode(buffer.AsSpan(0, length), out Hello hello, out FabricError? error))
        {
            _logger.LogWarning("Data connection from {Peer} refused; it began with '{Bytes}': {Error}", peer, Hello.Printable(buffer.AsSpan(0, Math.Min(length, 16))), error.Message);
            if (Hello.BeginsWithMagic(buffer.AsSpan(0, length)))
                Reply(descriptor, new HelloReply(error.Code == ErrorCodes.Incompatible ? HelloStatus.Version : HelloStatus.Malformed, $"{error.Message} This end speaks version {Hello.Version}."));
            return false;
        }

        // Compared in constant time, and against something even when the migration is unknown: an answer's time tells nothing.
        bool known = _registrations.TryGetValue(hello.Migration, out Registration? registration);
        bool right = CryptographicOperations.FixedTimeEquals(hello.Ticket.Span, registration?.Secret ?? _nobodysTicket);
        if (!known || !right)
        {
            _logger.LogWarning("Data connection from {Peer} refused: unknown migration or wrong ticket", peer);
            Reply(descriptor, new HelloReply(HelloStatus.Unknown, "No such migration is expected here, or the ticket is wrong."));
            return false;
        }

        // Attached first: what follows the welcome finds its receiver. Nothing else is sent on the connection before.
        HelloStatus status = registration!.Transfer.Attach(socket, hello.Channel, hello.Index);
        Reply(descriptor, new HelloReply(status, status == HelloStatus.Welcome ? "" : "This connection of the migration exists already, or the migration is over."));
        return status == HelloStatus.Welcome;
    }

    // At most 64 bytes; fewer when the peer closed, was too slow, or does not begin with the magic.
    private int ReadHello(int descriptor, byte[] buffer)
    {
        SocketIoVectors areas = new(1);
        areas.Add(Marshal.UnsafeAddrOfPinnedArrayElement(buffer, 0), Hello.Size);
        long began = _time.GetTimestamp();
        while (areas.Bytes > 0 && !_ended.IsCancellationRequested)
        {
            long moved = SocketIo.Receive(descriptor, areas);
            int length = Hello.Size - (int)areas.Bytes;
            bool foreign = length >= 4 && !Hello.BeginsWithMagic(buffer.AsSpan(0, length));
            bool broken = moved == 0 || (moved < 0 && moved is not (-Errno.TryAgain or -Errno.Interrupted));
            if (foreign || broken || _time.GetElapsedTime(began) > _settings.HelloDeadline)
                break;
        }

        return Hello.Size - (int)areas.Bytes;
    }

    private static void Reply(int descriptor, HelloReply reply)
    {
        byte[] buffer = GC.AllocateArray<byte>(HelloReply.HeadSize + HelloReply.MaxText, pinned: true);
        SocketIoVectors areas = new(1);
        areas.Add(Marshal.UnsafeAddrOfPinnedArrayElement(buffer, 0), reply.Write(buffer));
        // A fresh connection has room for it; if not, the peer sees a close.
        _ = SocketIo.Send(descriptor, areas);
    }

    private sealed record Registration(DataListener Listener, MigrationId Migration, byte[] Secret, IncomingTransfer Transfer) : IDisposable
    {
        public void Dispose() => Listener._registrations.TryRemove(new KeyValuePair<MigrationId, Registration>(Migration, this));
    }
}
