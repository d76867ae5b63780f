using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// Pre-copy over loopback sockets. The claim "the destination ends with the source's memory" is proven by comparing all pages of both
/// memories after the hand-over, by the test itself and not by the transfer's own verification.
/// </summary>
public sealed class PushTests
{
    private const int Second = 1000;

    [Theory(Timeout = 60 * Second)]
    [InlineData(1, VerifyLevel.Full, 1)]
    [InlineData(63, VerifyLevel.Full, 2)]
    [InlineData(65, VerifyLevel.Frames, 3)]
    [InlineData(4097, VerifyLevel.Full, 2)]
    [InlineData(5000, VerifyLevel.None, 2)]
    public async Task A_quiet_guest_arrives_whole(long pages, VerifyLevel verify, int bulk)
    {
        await using TransferPair pair = new(pages, verify, bulk);
        for (long page = 0; page < pages; page += 2)
            pair.Source.GuestWrite(page, 1);
        for (long page = 0; page < pages; page += 8)
            pair.Source.GuestZero(page);
        await pair.ConnectAsync();

        RoundReport round = await pair.Outgoing.PushRoundAsync(default);
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;

        Assert.Empty(pair.Differences());
        Assert.Equal(new Epoch(7), await pair.Accepted);
        Assert.Equal(pair.State, pair.LoadedState);
        Assert.Equal((pages + 1) / 2, round.PagesSent + round.PagesZero);
        Assert.Equal((pages + 7) / 8, round.PagesZero);
        Assert.Equal(verify == VerifyLevel.None ? null : true, pair.Incoming.Snapshot().Verified);
        Assert.Equal(verify == VerifyLevel.None ? null : true, pair.Outgoing.Snapshot().Verified);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_guest_that_never_wrote_costs_nothing()
    {
        await using TransferPair pair = new(10_000);
        await pair.ConnectAsync();
        RoundReport round = await pair.Outgoing.PushRoundAsync(default);
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Equal(0, round.PagesSent + round.PagesZero);
        Assert.Empty(pair.Differences());
    }

    [Fact(Timeout = 60 * Second)]
    public async Task Without_any_round_the_stopped_copy_carries_everything()
    {
        await using TransferPair pair = new(3000);
        for (long page = 0; page < 3000; page++)
            pair.Source.GuestWrite(page, 9);
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
    }

    [Theory(Timeout = 120 * Second)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(3, false)]
    public async Task A_guest_that_writes_zeroes_and_gives_back_while_it_is_pushed_arrives_whole(int seed, bool copies)
    {
        const long Pages = 6000;
        await using TransferPair pair = new(Pages);
        pair.Source.Copies = copies;
        for (long page = 0; page < Pages; page += 3)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        using CancellationTokenSource stop = new();
        Thread writer = new(() => Mutate(pair.Source, new Random(seed), stop.Token)) { IsBackground = true };
        writer.Start();
        for (int i = 0; i < 6; i++)
            await pair.Outgoing.PushRoundAsync(default);
        await stop.CancelAsync();
        writer.Join();
        // Saving the device state writes memory too.
        Task<byte[]> state = Task.Run(() =>
        {
            for (long page = 100; page < 120; page++)
                pair.Source.GuestWrite(page, 77);
            return pair.State;
        });
        await pair.Outgoing.FinishStoppedAsync(HandOverKind.Complete, state, default);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_page_given_back_between_rounds_is_zero_at_the_destination()
    {
        await using TransferPair pair = new(100);
        for (long page = 0; page < 100; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        Assert.NotEqual(pair.Destination.Peek(99), pair.Destination.Peek(98));
        pair.Source.GuestGiveBack(42);
        pair.Source.GuestGiveBack(43);
        await pair.FinishAsync(HandOverKind.Complete);
        Assert.Empty(pair.Differences());
    }

    /// <summary>The defect that only full verification can see: a write that dirty tracking missed, of a page that was not being sent.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task A_write_that_tracking_missed_is_found_by_full_verification_and_the_token_is_not_passed()
    {
        await using TransferPair pair = new(500);
        for (long page = 0; page < 500; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        pair.Source.BlindPage = 321;
        await pair.Outgoing.PushRoundAsync(default);
        pair.Source.GuestWrite(321, 2);
        FabricException refused = await Assert.ThrowsAsync<FabricException>(() => pair.FinishAsync(HandOverKind.Complete));
        Assert.Equal(ErrorCodes.Corrupt, refused.Error.Code);
        Assert.Contains("321", refused.Error.Message, StringComparison.Ordinal);
        Assert.False(pair.Accepted.IsCompleted);
        Assert.False(pair.Outgoing.Snapshot().Verified);
        await Assert.ThrowsAsync<FabricException>(() => pair.Running);
        Assert.False(pair.Incoming.Snapshot().Verified);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_machine_that_cannot_load_its_state_refuses_and_says_why()
    {
        await using TransferPair pair = new(10) { WhileLoading = () => throw new FabricException(ErrorCodes.MachineFailed, "virtio-net is unknown") };
        await pair.ConnectAsync();
        FabricException refused = await Assert.ThrowsAsync<FabricException>(() => pair.FinishAsync(HandOverKind.Complete));
        Assert.Equal(ErrorCodes.MachineFailed, refused.Error.Code);
        Assert.Contains("virtio-net is unknown", refused.Error.Message, StringComparison.Ordinal);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_refused_token_is_an_error_with_the_reason()
    {
        await using TransferPair pair = new(10) { BeforeAccept = () => throw new FabricException(ErrorCodes.RefusedByEpoch, "epoch 9 was seen") };
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Complete);
        FabricException refused = await Assert.ThrowsAsync<FabricException>(pair.TokenAsync);
        Assert.Equal(ErrorCodes.RefusedByEpoch, refused.Error.Code);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task Saving_that_fails_leaves_the_source_free_to_withdraw()
    {
        await using TransferPair pair = new(10);
        await pair.ConnectAsync();
        Task<byte[]> broken = Task.FromException<byte[]>(new FabricException(ErrorCodes.MachineFailed, "cannot save"));
        FabricException error = await Assert.ThrowsAsync<FabricException>(() => pair.Outgoing.FinishStoppedAsync(HandOverKind.Complete, broken, default));
        Assert.Contains("cannot save", error.Error.Message, StringComparison.Ordinal);
        Assert.False(pair.Accepted.IsCompleted);
    }

    private static void Mutate(FakeGuest guest, Random random, CancellationToken stop)
    {
        ulong version = 2;
        while (!stop.IsCancellationRequested)
        {
            for (int i = 0; i < 20; i++)
            {
                long page = random.NextInt64(guest.PageCount);
                switch (random.Next(10))
                {
                    case 0:
                        guest.GuestZero(page);
                        break;
                    case 1:
                        guest.GuestGiveBack(page);
                        break;
                    default:
                        guest.GuestWrite(page, version++);
                        break;
                }
            }

            Thread.Yield();
        }
    }
}
