using System.Net.Sockets;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>The order of "the answer came" and "the transfer ended" is what counts, not which of the two wakes the waiter first.</summary>
public sealed class TransferLifeTests
{
    [Fact]
    public async Task An_answer_that_came_before_the_end_is_not_lost()
    {
        for (int i = 0; i < 200; i++)
        {
            using var life = new TransferLife("test", TimeProvider.System, NullLogger.Instance);
            var answer = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
            var waiting = life.WithinAsync(answer.Task, TimeSpan.FromSeconds(30), "the answer", CancellationToken.None);

            // As the control thread does it: the last word, then the end of the connection, while the waiter has not run yet.
            answer.SetResult(i);
            life.Fail(new FabricException(ErrorCodes.Unreachable, "closed"));
            Assert.Equal(i, await waiting);
        }
    }

    [Fact]
    public async Task An_answer_that_never_came_ends_with_what_ended_the_transfer()
    {
        using var life = new TransferLife("test", TimeProvider.System, NullLogger.Instance);
        var answer = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
        var waiting = life.WithinAsync(answer.Task, TimeSpan.FromSeconds(30), "the answer", CancellationToken.None);
        life.Fail(new FabricException(ErrorCodes.Unreachable, "closed"));
        var error = await Assert.ThrowsAsync<FabricException>(() => waiting);
        Assert.Equal(ErrorCodes.Unreachable, error.Error.Code);
    }

    /// <summary>The destination says Running and closes; a ping that hits the closed connection must not drown what was said before.</summary>
    [Fact]
    public async Task A_ping_that_meets_a_closing_peer_does_not_make_a_passed_token_unknown()
    {
        var settings = new TransferSettings { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, PingInterval = TimeSpan.FromMilliseconds(1) };
        for (int i = 0; i < 100; i++)
        {
            await using var pair = new TransferPair(64, VerifyLevel.None, bulk: 1, settings);
            await pair.ConnectAsync();
            await pair.Outgoing.PushRoundAsync(CancellationToken.None);
            await pair.FinishAsync(HandOverKind.Complete);
            var passing = pair.TokenAsync();
            await pair.Running;
            await pair.Incoming.DisposeAsync();
            await passing;
        }
    }

    [Fact]
    public async Task The_end_is_said_to_whoever_waits_for_nothing_else()
    {
        await using var pair = new TransferPair(64);
        await pair.ConnectAsync();
        Assert.False(pair.Outgoing.Over.IsCompleted);
        await pair.Incoming.DisposeAsync();
        Assert.NotNull(await pair.Outgoing.Over.WaitAsync(TimeSpan.FromSeconds(10)));
    }

    /// <summary>Who greets a connection holds its descriptor, and closing a socket waits for all who do: closed within the call, it would wait for itself.</summary>
    [Fact]
    public void A_channel_that_comes_after_the_end_stays_open_and_its_callers()
    {
        using var life = new TransferLife("test", TimeProvider.System, NullLogger.Instance);
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        using var channel = new DataChannel(socket, ChannelKind.Bulk, 0, TransferSettings.Default, TimeProvider.System);
        life.End();
        Assert.False(life.TryOwn(channel));
        Assert.False(socket.SafeHandle.IsClosed);
    }

    /// <summary>
    /// The machine dies and is disposed while threads read or write its memory, on either side. Without the pins this ends the test process: a page that is
    /// not mapped any more is no exception that could be caught.
    /// </summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_machine_that_ends_in_the_middle_takes_its_agent_with_it_nowhere(bool atSource)
    {
        const long Pages = 4096;
        for (int i = 0; i < 10; i++)
        {
            await using var pair = new TransferPair(Pages);
            for (long page = 0; page < Pages; page++)
                pair.Source.GuestWrite(page, 1);
            await pair.ConnectAsync();
            await pair.Outgoing.PushRoundAsync(CancellationToken.None);
            for (long page = 0; page < Pages; page++)
                pair.Source.GuestWrite(page, 2);
            var pushing = pair.Outgoing.PushRoundAsync(CancellationToken.None);
            await Task.Yield();
            (atSource ? pair.Source : pair.Destination).Dispose();
            await Record.ExceptionAsync(() => pushing);
            await pair.DisconnectAsync();
            Assert.Throws<ObjectDisposedException>(() => (atSource ? pair.Source : pair.Destination).Address);
        }
    }
}
