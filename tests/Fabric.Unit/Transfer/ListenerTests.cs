using System.Net.Sockets;
using System.Text;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Fabric.Wire.Data;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>Strangers at the data port. Each test ends by moving a VM through the same port: it never died.</summary>
public sealed class ListenerTests
{
    private const int Second = 1000;
    private const int Tries = 150;

    [Theory(Timeout = 30 * Second)]
    [InlineData("GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: something long enough to fill a hello\r\n\r\n")]
    [InlineData("x")]
    [InlineData("")]
    [InlineData("FBRC\u0001")]
    [InlineData("FBRC\u0009\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public async Task Whoever_does_not_say_hello_is_closed(string text)
    {
        await using TransferPair pair = Pair();
        using (Socket stranger = await DialAsync(pair))
        {
            await stranger.SendAsync(Encoding.Latin1.GetBytes(text));
            Assert.True(await ReadToEndAsync(stranger) <= HelloReply.HeadSize + HelloReply.MaxText);
        }

        await MoveAsync(pair);
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_wrong_ticket_and_an_unknown_migration_get_the_same_answer()
    {
        await using TransferPair pair = Pair();
        List<string> answers = [];
        Ticket wrong = new(new string('8', 64));
        foreach ((MigrationId id, Ticket ticket) in ((MigrationId, Ticket)[])[(TransferPair.Migration, wrong), (new MigrationId(Guid.NewGuid()), TransferPair.Ticket)])
        {
            FabricException refused = await Assert.ThrowsAsync<FabricException>(() =>
                OutgoingConnector.ConnectAsync(pair.Endpoint, id, ticket, 1, pair.Settings, TimeProvider.System, CancellationToken.None));
            Assert.Equal(ErrorCodes.RefusedBySafety, refused.Error.Code);
            answers.Add(refused.Error.Message);
        }

        Assert.Equal(answers[0], answers[1]);
        await MoveAsync(pair);
    }

    [Fact(Timeout = 30 * Second)]
    public async Task Forty_silent_connections_do_not_keep_a_migration_out_for_longer_than_the_hello_deadline()
    {
        await using TransferPair pair = Pair();
        List<Socket> silent = [];
        for (int i = 0; i < 40; i++)
            silent.Add(await DialAsync(pair));
        await MoveAsync(pair);
        silent.ForEach(s => s.Dispose());
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_port_where_nobody_listens_is_unreachable()
    {
        int port;
        await using (TransferPair pair = Pair())
            port = pair.Listener.Endpoint.Port;
        FabricException error = await Assert.ThrowsAsync<FabricException>(() =>
            OutgoingConnector.ConnectAsync(new DataEndpoint("127.0.0.1", port), TransferPair.Migration, TransferPair.Ticket, 1, TransferSettings.Default, TimeProvider.System, CancellationToken.None));
        Assert.Equal(ErrorCodes.Unreachable, error.Error.Code);
    }

    /// <summary>A greeting that takes the port's thread with it would be seen at the end: the port waits for every greeting.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task A_transfer_that_ends_while_its_connections_are_welcomed_does_not_keep_the_port_from_closing()
    {
        for (int i = 0; i < Tries; i++)
        {
            TransferPair pair = new(16, settings: new TransferSettings { SliceMilliseconds = 20 });
            pair.Await();
            Task connecting = Task.Run(() => KnockAsync(pair));
            await Task.Run(() => SpinFor(TimeSpan.FromMicroseconds(i * 20)));
            await pair.Incoming.DisposeAsync();
            await connecting;
            await pair.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(10));
        }
    }

    /// <summary>Linux gives twice the buffer that is asked for; what it gives is what a socket says.</summary>
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public async Task On_one_host_little_is_under_way_on_each_of_several_connections(int connections, bool little)
    {
        var settings = TransferSettings.Default;
        await using var pair = new TransferPair(50, settings: settings, bulk: connections);
        pair.Await();
        using var channels = await OutgoingConnector.ConnectAsync(pair.Endpoint, pair.Id, TransferPair.Ticket, connections, settings, TimeProvider.System, CancellationToken.None);
        Assert.Equal(connections, channels.Bulk.Length);
        Assert.All(channels.Bulk, channel =>
        {
            Assert.True(channel.StaysOnHost);
            Assert.Equal(little, channel.RawSocket.SendBufferSize <= 2 * settings.OneHostBufferBytes);
        });
    }

    private static async Task KnockAsync(TransferPair pair)
    {
        try
        {
            (await OutgoingConnector.ConnectAsync(pair.Endpoint, pair.Id, TransferPair.Ticket, 4, pair.Settings, TimeProvider.System, CancellationToken.None)).Dispose();
        }
        catch (FabricException)
        {
            // It came too late.
        }
    }

    private static void SpinFor(TimeSpan time)
    {
        long began = TimeProvider.System.GetTimestamp();
        while (TimeProvider.System.GetElapsedTime(began) < time)
            Thread.SpinWait(50);
    }

    private static TransferPair Pair() => new(50, settings: new TransferSettings { HelloDeadline = TimeSpan.FromSeconds(2), ConnectDeadline = TimeSpan.FromSeconds(10), SliceMilliseconds = 20 });

    private static async Task MoveAsync(TransferPair pair)
    {
        for (long page = 0; page < pair.Source.PageCount; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
    }

    private static async Task<Socket> DialAsync(TransferPair pair)
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(pair.Listener.Endpoint);
        return socket;
    }

    private static async Task<int> ReadToEndAsync(Socket socket)
    {
        byte[] buffer = new byte[4096];
        int total = 0;
        try
        {
            int got;
            while ((got = await socket.ReceiveAsync(buffer)) > 0)
                total += got;
        }
        catch (SocketException)
        {
            // Reset: closed as well.
        }

        return total;
    }
}
