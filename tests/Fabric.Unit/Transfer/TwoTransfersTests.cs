using Fabric.Core;
using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// A transfer that is called off lets go of its guest when its threads have ended, and by then the next one may have begun. Whether the next one lost anything by it is seen by comparing all pages after its hand-over.
/// </summary>
public sealed class TwoTransfersTests
{
    private const int Second = 1000;
    private const int Pages = 300;

    private static MigrationId Later { get; } = MigrationId.Parse("fedcba9876543210fedcba9876543210");

    [Fact(Timeout = 30 * Second)]
    public async Task A_push_that_looks_and_ends_late_takes_nothing_from_the_next()
    {
        await using TransferPair earlier = new(Pages);
        Write(earlier.Source, 1);
        await earlier.ConnectAsync();
        await earlier.Outgoing.PushRoundAsync(default);

        await using TransferPair later = new(Pages, migration: Later, source: earlier.Source);
        await later.ConnectAsync();
        await later.Outgoing.PushRoundAsync(default);
        Write(later.Source, 2);
        var refused = await Assert.ThrowsAsync<FabricException>(() => earlier.Outgoing.PushRoundAsync(default));
        Assert.Equal(ErrorCodes.Cancelled, refused.Error.Code);
        await earlier.DisconnectAsync();
        Write(later.Source, 3);

        await CompleteAsync(later);
        Assert.False(later.Source.IsTracking);
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_look_that_ends_late_takes_nothing_from_the_next_transfer()
    {
        using FakeGuest guest = new(Pages, receives: false);
        Write(guest, 1);
        GuestLook look = GuestLook.Begin(guest, touches: false, NullLogger.Instance);
        await look.Begun;

        await using TransferPair later = new(Pages, migration: Later, source: guest);
        await later.ConnectAsync();
        await later.Outgoing.PushRoundAsync(default);
        await look.DisposeAsync();
        Write(guest, 2);

        await CompleteAsync(later);
    }

    /// <summary>To begin takes time where there is much memory. What was begun for nobody the guest would pay for until its next migration.</summary>
    [Fact(Timeout = 30 * Second)]
    public async Task A_transfer_that_is_ended_while_it_begins_to_record_leaves_no_recording()
    {
        await using TransferPair pair = new(3 * FakeGuest.PiecePages);
        Write(pair.Source, 1);
        await pair.ConnectAsync();
        List<long> pieces = [];
        TaskCompletionSource arming = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using ManualResetEventSlim goOn = new();
        pair.Source.BeforePiece = first =>
        {
            pieces.Add(first);
            arming.TrySetResult();
            Assert.True(goOn.Wait(20 * Second));
        };
        Task round = pair.Outgoing.PushRoundAsync(default);
        await arming.Task;
        Task ended = pair.Outgoing.DisposeAsync().AsTask();
        Assert.True(SpinWait.SpinUntil(() => pair.Outgoing.Over.IsCompleted, 20 * Second));
        goOn.Set();
        await Assert.ThrowsAsync<FabricException>(() => round);
        await ended;
        Assert.Equal([0L], pieces);
        Assert.False(pair.Source.IsTracking);
    }

    private static void Write(FakeGuest guest, ulong value)
    {
        for (long page = 0; page < guest.PageCount; page++)
            guest.GuestWrite(page, value);
    }

    private static async Task CompleteAsync(TransferPair pair)
    {
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        await pair.DisconnectAsync();
    }
}
