using Fabric.Core;
using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Fabric.Wire.Data;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// A first round is sent while it is being chosen. That it does not wait for the choice, by a choice that waits for pages to be sent; that nothing is lost meanwhile, by comparing all pages after the hand-over.
/// </summary>
public sealed class FirstRoundTests
{
    private const int Second = 1000;
    private const int Pages = 4001;

    [Fact(Timeout = 60 * Second)]
    public async Task The_first_pages_go_while_the_others_are_looked_for()
    {
        await using TransferPair pair = new(Pages);
        for (long page = 0; page < Pages; page += page == 1500 ? 1000 : 1)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        bool sent = false;
        pair.Source.BeforePiece = first =>
        {
            if (first != 2 * FakeGuest.PiecePages)
                return;
            sent = SpinWait.SpinUntil(() => pair.Outgoing.Snapshot().PagesSent == first, 20 * Second);
            pair.Source.GuestWrite(3, 2); // behind what was reached: recorded
            pair.Source.GuestWrite(3000, 2); // before it: goes as it is now
            pair.Source.GuestWrite(2000, 2); // begins to exist
        };
        RoundReport first = await pair.Outgoing.PushRoundAsync(default);
        Assert.True(sent);
        Assert.Equal((Pages - 999 + 1, 1L), (first.PagesSent, first.DirtyAfter));
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
    }

    /// <summary>The senders' threads end with the transfer: a sender that waits for pages would keep it from ending. And nothing is handed over of which nobody knows what exists.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task Senders_do_not_wait_for_a_choice_that_failed()
    {
        await using TransferPair pair = new(Pages);
        pair.Source.GuestWrite(0, 1);
        await pair.ConnectAsync();
        pair.Source.BeforePiece = static first =>
        {
            if (first > 0)
                throw new FabricException(ErrorCodes.MachineFailed, "The machine is gone.");
        };
        var error = await Assert.ThrowsAsync<FabricException>(() => pair.Outgoing.PushRoundAsync(default));
        Assert.Equal(ErrorCodes.MachineFailed, error.Error.Code);
        error = await Assert.ThrowsAsync<FabricException>(() => pair.FinishAsync(HandOverKind.Pull));
        Assert.Equal(ErrorCodes.MachineFailed, error.Error.Code);
        await pair.DisconnectAsync();
        Assert.False(pair.Source.IsTracking);
    }

    [Fact]
    public async Task Nothing_is_taken_beyond_what_was_reached()
    {
        PageBitmap pages = new(200) { [10] = true, [70] = true, [199] = true };
        PushJob job = new(pages, null, null, new PageBitmap(200), chunkPages: 4, PageFlags.None, 1, keeps: false);
        long[] chunk = new long[Limits.PagesPerFrame];
        job.Reached(64);
        Assert.Equal((1, 10L), (job.TakePages(chunk), chunk[0]));
        Task<int> next = Task.Run(() => job.TakePages(chunk));
        job.Reached(128);
        Assert.Equal((1, 70L), (await next, chunk[0]));
        job.Reached(200);
        Assert.Equal((1, 199L), (job.TakePages(chunk), chunk[0]));
        next = Task.Run(() => job.TakePages(chunk));
        job.Complete(3);
        Assert.Equal((0, 0L), (await next, job.Left));
    }
}
