using System.Net;
using System.Net.Sockets;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>The connected channels of one migration; owned by the transfer that they are given to, else disposed by who made them.</summary>
public sealed class OutgoingChannels : IDisposable
{
    internal OutgoingChannels(DataChannel control, DataChannel urgent, DataChannel[] bulk)
    {
        Control = control;
        Urgent = urgent;
        Bulk = bulk;
    }

    public int BulkConnections => Bulk.Length;

    internal DataChannel Control { get; }

    internal DataChannel Urgent { get; }

    internal DataChannel[] Bulk { get; }

    public void Dispose()
    {
        Control.Dispose();
        Urgent.Dispose();
        foreach (DataChannel channel in Bulk)
            channel.Dispose();
    }
}

/// <summary>Makes the source's connections and says hello on each.</summary>
public static class OutgoingConnector
{
    /// <summary>One control, one urgent and <paramref name="bulkConnections"/> bulk connections, all welcomed.</summary>
    /// <exception cref="FabricException">unreachable; deadline-exceeded; refused-by-safety when the destination does not let us in; incompatible; malformed.</exception>
    public static async Task<OutgoingChannels> ConnectAsync(
        DataEndpoint endpoint, MigrationId migration, Ticket ticket, int bulkConnections, TransferSettings settings, TimeProvider time, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(ticket);
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentOutOfRangeException.ThrowIfLessThan(bulkConnections, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bulkConnections, Limits.BulkConnections);
        byte[] secret = TicketBytes(ticket);
        // All at once: one after the other each would cost two round trips, and a guest whose pull broke waits for them.
        Task<DataChannel>[] opening =
        [
            OpenAsync(new Hello(ChannelKind.Control, 0, migration, secret)),
            OpenAsync(new Hello(ChannelKind.Urgent, 0, migration, secret)),
            .. Enumerable.Range(0, bulkConnections).Select(i => OpenAsync(new Hello(ChannelKind.Bulk, i, migration, secret))),
        ];
        try
        {
            DataChannel[] made = await Task.WhenAll(opening);
            DataChannel[] bulk = [.. made[2..]];
            // One connection alone needs a longer queue: its two ends would only ever run in turns.
            if (bulk.Length > 1 && settings.OneHostBufferBytes > 0)
            {
                foreach (var channel in bulk.Where(static channel => channel.StaysOnHost))
                    channel.KeepLittleUnderWay(settings.OneHostBufferBytes);
            }

            return new OutgoingChannels(made[0], made[1], bulk);
        }
        catch
        {
            foreach (var made in opening.Where(static o => o.IsCompletedSuccessfully))
                (await made).Dispose();
            throw;
        }

        Task<DataChannel> OpenAsync(Hello hello) => ConnectOneAsync(endpoint, hello, settings, time, cancellation);
    }

    /// <exception cref="FabricException">invalid-argument: not 32 bytes in hex.</exception>
    internal static byte[] TicketBytes(Ticket ticket)
    {
        if (ticket.Hex is not { Length: 2 * Ticket.Bytes } hex || !hex.All(char.IsAsciiHexDigit))
            throw new FabricException(ErrorCodes.InvalidArgument, $"A ticket has {Ticket.Bytes} bytes in hex.");
        return Convert.FromHexString(hex);
    }

    // The socket is used with blocking calls only, from the start: once an asynchronous call was made on it, the runtime would watch it with
    // epoll for ever and wake a thread for every arrival. So connecting happens in a thread of its own; cancelling closes the socket.
    private static async Task<DataChannel> ConnectOneAsync(
        DataEndpoint endpoint, Hello hello, TransferSettings settings, TimeProvider time, CancellationToken cancellation)
    {
        IPAddress address = await ResolveAsync(endpoint, cancellation);
        Socket socket = new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            using var deadline = new CancellationTokenSource(settings.ConnectDeadline, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
            await using (either.Token.Register(static s => ((Socket)s!).Dispose(), socket))
            {
                try
                {
                    return await Task.Factory.StartNew(
                        () => Open(socket, new IPEndPoint(address, endpoint.Port), hello, settings, time),
                        CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
                }
                catch (Exception e) when (either.IsCancellationRequested && e is not FabricException { Error.Code: ErrorCodes.RefusedBySafety })
                {
                    cancellation.ThrowIfCancellationRequested();
                    throw new FabricException(ErrorCodes.DeadlineExceeded, $"{endpoint.Address}:{endpoint.Port} did not answer within {settings.ConnectDeadline.TotalSeconds:0.#} s.", cause: e);
                }
            }
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw new FabricException(ErrorCodes.Unreachable, $"{endpoint.Address}:{endpoint.Port} cannot be reached: {e.Message}", "Is the destination's agent running, and its data port open?", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static DataChannel Open(Socket socket, IPEndPoint endpoint, Hello hello, TransferSettings settings, TimeProvider time)
    {
        socket.Connect(endpoint);
        socket.NoDelay = true;
        Span<byte> buffer = stackalloc byte[HelloReply.HeadSize + HelloReply.MaxText];
        hello.Write(buffer);
        for (int sent = 0; sent < Hello.Size;)
            sent += socket.Send(buffer[sent..Hello.Size]);
        ReceiveAll(socket, buffer[..HelloReply.HeadSize]);
        if (!HelloReply.TryDecodeHead(buffer[..HelloReply.HeadSize], out HelloStatus status, out int length, out FabricError? error))
            throw new FabricException(error);
        Span<byte> text = buffer.Slice(HelloReply.HeadSize, length);
        ReceiveAll(socket, text);
        if (status != HelloStatus.Welcome)
            throw new FabricException(status == HelloStatus.Version ? ErrorCodes.Incompatible : ErrorCodes.RefusedBySafety, $"The destination refuses the {hello.Channel} connection: {ErrorText.Clean(text)}");
        return new DataChannel(socket, hello.Channel, hello.Index, settings, time);
    }

    private static void ReceiveAll(Socket socket, Span<byte> buffer)
    {
        while (buffer.Length > 0)
        {
            int got = socket.Receive(buffer);
            if (got == 0)
                throw new FabricException(ErrorCodes.Unreachable, "The destination closed the connection instead of answering the hello.");
            buffer = buffer[got..];
        }
    }

    private static async Task<IPAddress> ResolveAsync(DataEndpoint endpoint, CancellationToken cancellation)
    {
        if (IPAddress.TryParse(endpoint.Address, out IPAddress? literal))
            return literal;
        try
        {
            IPAddress[] found = await Dns.GetHostAddressesAsync(endpoint.Address, cancellation);
            return found.Length > 0 ? found[0] : throw new SocketException((int)SocketError.HostNotFound);
        }
        catch (SocketException e)
        {
            throw new FabricException(ErrorCodes.Unreachable, $"Host name '{Label.Shorten(endpoint.Address)}' has no address: {e.Message}", cause: e);
        }
    }
}
