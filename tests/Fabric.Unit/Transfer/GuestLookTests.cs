using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// A look that begins before there is a transfer: whoever has it leaves a guest that pays for no more, and what the guest does between the look's begin and the connection is not lost, which the bytes of both memories show.
/// </summary>
public sealed class GuestLookTests
{
    private const int Second = 1000;
    private const long Pages = 3000;

    [Fact(Timeout = 60 * Second)]
    public async Task A_look_that_no_transfer_took_leaves_a_guest_that_is_not_tracked()
    {
        using FakeGuest guest = new(Pages, receives: false);
        var look = GuestLook.Begin(guest, touches: true, NullLogger.Instance);
        Assert.True(await look.Begun);
        Assert.True(guest.IsTracking);
        await look.DisposeAsync();
        Assert.False(guest.IsTracking);
        await look.DisposeAsync();
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_look_that_is_given_up_while_it_begins_does_not_begin_later()
    {
        using FakeGuest guest = new(Pages, receives: false);
        using ManualResetEventSlim goesOn = new();
        TaskCompletionSource watched = new();
        guest.Watch = () =>
        {
            watched.SetResult();
            goesOn.Wait();
            return true;
        };
        var look = GuestLook.Begin(guest, touches: true, NullLogger.Instance);
        await watched.Task;
        var ended = look.DisposeAsync();
        goesOn.Set();
        await ended;
        Assert.False(guest.IsTracking);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task What_the_guest_writes_before_the_connection_is_there_is_not_sent_stale()
    {
        await using TransferPair pair = new(Pages, settings: new() { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, WorkingSetTime = TimeSpan.FromSeconds(30) });
        Random random = new(1);
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestNoise(page, random);
        pair.Source.GuestGiveBack(9);
        pair.Look = GuestLook.Begin(pair.Source, touches: true, NullLogger.Instance);
        await pair.Look.Begun;
        pair.Source.GuestWrite(7, 2); // was there
        pair.Source.GuestWrite(9, 2); // was not
        pair.Source.GuestGiveBack(11);
        await pair.ConnectAsync();
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.Equal(2, pair.Pull.MissingCount);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
        await pair.DisconnectAsync();
        Assert.False(pair.Source.IsTracking);
    }
}
