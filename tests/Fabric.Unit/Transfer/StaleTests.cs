using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>What a push left stale at the destination, when a pull follows it.</summary>
public sealed class StaleTests
{
    /// <summary>Freeing pages takes longer than all else in a pause: who had nothing to discard while the guest stood did it before.</summary>
    [Fact(Timeout = 60_000)]
    public async Task What_a_push_left_stale_is_discarded_before_the_guest_stops()
    {
        const long Pages = 3000;
        await using TransferPair pair = new(Pages);
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        for (long page = 0; page < Pages; page += 3)
            pair.Source.GuestWrite(page, 2);
        long discarded = 0;
        pair.Destination.WhenDiscarded = run => Interlocked.Add(ref discarded, run.Count);
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        Assert.Equal(Pages / 3, Interlocked.Read(ref discarded));

        // Until it stands the guest does what it likes with them, and with others.
        pair.Source.GuestGiveBack(0);
        pair.Source.GuestWrite(3, 3);
        pair.Source.GuestWrite(1, 3);
        pair.Source.GuestGiveBack(2);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.Equal((Pages / 3) + 2, Interlocked.Read(ref discarded));
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.Equal((Pages / 3) + 1, pair.Pull.MissingCount);
    }
}
