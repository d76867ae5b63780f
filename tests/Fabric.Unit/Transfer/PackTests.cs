using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// Packing over loopback sockets whose wire is made slow by a cap. That the destination has the source's memory is proven by comparing all of both; that packing took place, by the counters and by the bytes
/// on the wire beside the bytes of the pages.
/// </summary>
public sealed class PackTests
{
    private const int Second = 1000;
    private readonly BandwidthCap _slow = new(16 * ByteSize.Mebi, TimeProvider.System);

    [Theory(Timeout = 60 * Second)]
    [InlineData(1000, VerifyLevel.Full)]
    [InlineData(1001, VerifyLevel.Frames)]
    [InlineData(1000, VerifyLevel.None)]
    public async Task A_guest_that_writes_while_it_is_pushed_arrives_whole_in_fewer_bytes(long pages, VerifyLevel verify)
    {
        await using TransferPair pair = new(pages, verify) { Pack = true };
        Random random = new(7);
        for (long page = 0; page < pages; page++)
            pair.Source.GuestWrite(page, 1);
        // So slow that packing pays from its first trial on, although that compiles and loads it, on a machine that is busy with other tests: after a trial that took 0.1 s the next would come 3 s later.
        await pair.ConnectAsync(cap: new BandwidthCap(ByteSize.Mebi, TimeProvider.System));
        for (int round = 0; round < 6; round++)
        {
            // Also in the middle of a round: what is sent is then neither what was there nor what is.
            Task<RoundReport> push = pair.Outgoing.PushRoundAsync(default);
            while (!push.IsCompleted)
                Write(pair.Source, random);
            await push;
            for (int i = 0; i < 100; i++)
                Write(pair.Source, random);
        }

        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        MigrationStats stats = pair.Outgoing.Snapshot();
        Assert.True(stats.PagesPacked > pages / 2, $"{stats.PagesPacked} of {stats.PagesSent} packed");
        Assert.True(stats.WireBytes < stats.PagesSent * pair.Source.PageSize / 2, $"{stats.WireBytes} bytes for {stats.PagesSent} pages");
    }

    [Fact(Timeout = 60 * Second)]
    public async Task What_cannot_be_packed_goes_as_a_difference_from_the_third_time_on()
    {
        const int Pages = 2000;
        const int Hot = 400;
        await using TransferPair pair = new(Pages) { Pack = true };
        Random random = new(8);
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestNoise(page, random);
        await pair.ConnectAsync(cap: _slow);
        List<RoundReport> rounds = [];
        for (int round = 1; round <= 5; round++)
        {
            rounds.Add(await pair.Outgoing.PushRoundAsync(default));
            for (long page = 0; page < Hot; page++)
                pair.Source.GuestNudge(page, random.Next(512), (byte)random.Next(256));
            // And some that come and go: zeros, and pages that are given back, are no base for a difference.
            pair.Source.GuestZero(round * 10);
            pair.Source.GuestGiveBack((round * 10) + 1);
        }

        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.InRange(rounds[1].WireBytes, Hot * 4000L, long.MaxValue);
        Assert.All(rounds.Skip(2), round => Assert.InRange(round.WireBytes, 1, Hot * 4096L / 10));
        Assert.True(pair.Outgoing.Snapshot().PagesDelta > 3 * (Hot - 20), $"{pair.Outgoing.Snapshot().PagesDelta} differences");
    }

    [Fact(Timeout = 60 * Second)]
    public async Task What_cannot_be_packed_goes_as_it_is_and_is_not_counted_as_packed()
    {
        const int Pages = 8000;
        await using TransferPair pair = new(Pages) { Pack = true };
        Random random = new(9);
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestNoise(page, random);
        await pair.ConnectAsync(cap: _slow);
        await pair.Outgoing.PushRoundAsync(default);
        Assert.Equal((Pages, 0L), (pair.Outgoing.Snapshot().PagesSent, pair.Outgoing.Snapshot().PagesPacked));
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_pull_is_packed_too_and_has_no_differences()
    {
        const int Pages = 4000;
        await using TransferPair pair = new(Pages) { Pack = true };
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestWrite(page, 3);
        await pair.ConnectAsync(cap: _slow);
        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
        MigrationStats stats = pair.Outgoing.Snapshot();
        Assert.True(stats.PagesPacked > Pages / 2, $"{stats.PagesPacked} packed");
        Assert.Equal(0, stats.PagesDelta);
        Assert.Equal(Pages, stats.PagesSent);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task Nothing_is_packed_where_it_was_not_asked_for()
    {
        await using TransferPair pair = new(1000);
        for (long page = 0; page < 1000; page++)
            pair.Source.GuestWrite(page, 3);
        await pair.ConnectAsync(cap: _slow);
        await pair.Outgoing.PushRoundAsync(default);
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.Equal(0, pair.Outgoing.Snapshot().PagesPacked);
    }

    private static void Write(FakeGuest guest, Random random)
    {
        long page = random.NextInt64(guest.PageCount);
        switch (random.Next(8))
        {
            case 0:
                guest.GuestZero(page % 300);
                break;
            case 1:
                guest.GuestGiveBack(page % 300);
                break;
            case 2:
                guest.GuestNoise(page % 200, random);
                break;
            default:
                // A few pages take most of the writes.
                guest.GuestNudge(page % 200, random.Next(512), (byte)random.Next(256));
                break;
        }
    }
}
