using Fabric.Core;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Fabric.Wire.Data;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// Looks in the middle of rounds, over loopback sockets with a slow wire. That nothing is lost by them is proven by comparing all pages of both memories after the hand-over; what they save,
/// by the transfer's own counts.
/// </summary>
public sealed class LookTests
{
    private const int Second = 1000;
    private const int Pages = 4000;

    private const long Faster = 16 * ByteSize.Mebi;

    /// <summary>So slow that a round lasts until a test has seen what it waits for; then the wire becomes faster.</summary>
    private readonly BandwidthCap _wire = new(2 * ByteSize.Mebi, TimeProvider.System);

    [Fact(Timeout = 60 * Second)]
    public async Task A_page_that_is_written_before_its_turn_is_sent_once()
    {
        await using TransferPair pair = await FilledAsync();
        // The last page: its turn is at the end.
        pair.Source.BeforeScan = _ => pair.Source.GuestWrite(Pages - 1, 2);
        int looks = 0;
        RoundReport first = await pair.Outgoing.PushRoundAsync(
            _ =>
            {
                if (++looks == 1)
                    pair.Source.BeforeScan = null;
                else
                    _wire.Set(Faster);
                return true;
            },
            default);
        Assert.InRange(looks, 2, 50);
        Assert.Equal(0, first.DirtyAfter);
        Assert.Equal(Pages, first.PagesSent);
        await FinishAsync(pair);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_page_that_is_written_all_the_time_loses_its_turn_and_comes_with_the_stop()
    {
        await using TransferPair pair = await FilledAsync();
        WriteAllTheTime(pair, Pages - 200);
        RoundReport first = await pair.Outgoing.PushRoundAsync(FasterWhenHot, default);
        Assert.Equal(Pages - 200, first.PagesSent);
        Assert.Equal(200, first.DirtyAfter);
        Assert.Equal(200, first.Last!.HotPages);
        Assert.Equal(Pages, first.Last.MemoryPages);
        await FinishAsync(pair);
        Assert.Equal(Pages, pair.Outgoing.Snapshot().PagesSent);
    }

    /// <summary>What a round knows of hot pages is of its own time: the guest may have been slowed since the one before.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task A_round_that_holds_everything_back_lasts_until_it_knows_better()
    {
        await using TransferPair pair = await FilledAsync();
        WriteAllTheTime(pair, 0);
        RoundReport first = await pair.Outgoing.PushRoundAsync(FasterWhenHot, default);
        Assert.Equal(Pages, first.DirtyAfter);
        pair.Source.BeforeScan = null;
        RoundReport second = await pair.Outgoing.PushRoundAsync(default);
        Assert.Equal(0, second.Last!.HotPages);
        Assert.InRange(second.PagesSent, 1, Pages / 4); // what it takes to measure the wire
        RoundReport third = await pair.Outgoing.PushRoundAsync(default);
        Assert.Equal((Pages, 0L), (second.PagesSent + third.PagesSent, third.DirtyAfter));
        await FinishAsync(pair);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_wire_that_was_slow_is_measured_again_although_every_page_is_hot()
    {
        await using TransferPair pair = await FilledAsync();
        WriteAllTheTime(pair, 0);
        RoundReport slow = await pair.Outgoing.PushRoundAsync(FasterWhenHot, default);
        _wire.Set(8 * Faster);
        // What a short round measures counts little, and a machine that is busy makes it slow: several are needed, seldom more than two.
        RoundReport last = slow;
        for (int round = 0; round < 20 && last.Last!.WireRate < 4 * slow.Last!.WireRate; round++)
        {
            last = await pair.Outgoing.PushRoundAsync(default);
            Assert.Equal(Pages, last.DirtyAfter);
            Assert.InRange(last.PagesSent, 1, Pages); // all of them as soon as the wire is known to be fast enough for a short round
        }

        Assert.True(last.Last!.WireRate >= 4 * slow.Last!.WireRate, $"{slow.Last.WireRate:0} bytes a second, then {last.Last.WireRate:0}");
        await FinishAsync(pair);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_round_that_is_broken_off_leaves_the_rest_to_the_pull()
    {
        await using TransferPair pair = await FilledAsync();
        pair.Source.BeforeScan = scan => pair.Source.GuestWrite(scan, 2);
        RoundReport broken = await pair.Outgoing.PushRoundAsync(static look => look.SentPages < 1000, default);
        Assert.InRange(broken.PagesSent, 1000, Pages - 500);
        Assert.InRange(broken.DirtyAfter, Pages - broken.PagesSent + 1, Pages);
        pair.Source.BeforeScan = null;
        Assert.InRange(broken.Last!.WireRate, ByteSize.Mebi, 20 * ByteSize.Mebi);
        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
        Assert.Equal(broken.PagesSent + broken.DirtyAfter, pair.Outgoing.Snapshot().PagesSent);
    }

    [Theory(Timeout = 60 * Second)]
    [InlineData(1)]
    [InlineData(2)]
    public async Task A_guest_that_writes_at_random_while_it_is_looked_at_arrives_whole(int seed)
    {
        await using TransferPair pair = await FilledAsync();
        using CancellationTokenSource stop = new();
        _wire.Set(Faster);
        Thread writer = new(Write) { IsBackground = true };
        writer.Start();
        for (int round = 0; round < 3; round++)
            await pair.Outgoing.PushRoundAsync(default);
        await stop.CancelAsync();
        writer.Join();
        await FinishAsync(pair);

        void Write()
        {
            Random random = new(seed);
            // Half of the writes go to an eighth of the pages: hot ones, and others before and behind the cursor.
            for (ulong version = 2; !stop.IsCancellationRequested; version++)
            {
                for (int i = 0; i < 40; i++)
                    pair.Source.GuestWrite(i % 2 == 0 ? random.NextInt64(Pages) : (Pages / 2) + random.NextInt64(Pages / 8), version);
                Thread.Yield();
            }
        }
    }

    /// <summary>The rule on which the claim rests, without threads: only a page that nobody has taken yet may be left out of what is dirty.</summary>
    [Fact]
    public void Only_a_page_whose_turn_is_still_to_come_stays_clean()
    {
        PageBitmap sending = Bitmap(1, 3, 5, 7);
        PageBitmap dirty = new(10);
        PushJob job = new(sending, 4, null, new PageBitmap(10), chunkPages: 2, PageFlags.None, 1, keeps: false);
        long[] chunk = new long[Limits.PagesPerFrame];
        Assert.Equal(2, job.TakePages(chunk));
        job.Found(Bitmap(1, 2, 4, 5, 7), Bitmap(7), dirty);
        // 1 was taken, 2 and 4 are not of this round, 5 is to come; 7 is hot and loses its turn.
        Assert.Equal(Words(Bitmap(1, 2, 4, 7)), Words(dirty));
        Assert.Equal(1, job.Left);
        Assert.Equal((1, 5L), (job.TakePages(chunk), chunk[0]));
        job.Found(Bitmap(5), null, dirty);
        Assert.True(dirty[5]);
        Assert.Equal(0, job.TakePages(chunk));
        job.Found(Bitmap(3), null, dirty);
        Assert.True(dirty[3]);
    }

    [Fact]
    public void A_job_that_is_broken_off_gives_back_what_nobody_took()
    {
        PageBitmap dirty = new(10);
        PushJob job = new(Bitmap(1, 3, 5, 7), 4, null, new PageBitmap(10), chunkPages: 2, PageFlags.None, 1, keeps: false);
        long[] chunk = new long[Limits.PagesPerFrame];
        Assert.Equal(2, job.TakePages(chunk));
        job.BreakOff(dirty);
        Assert.Equal(Words(Bitmap(5, 7)), Words(dirty));
        Assert.Equal((0, 0L), (job.TakePages(chunk), job.Left));
    }

    private static ulong[] Words(PageBitmap map) => map.Words.ToArray();

    private static PageBitmap Bitmap(params long[] pages)
    {
        PageBitmap map = new(10);
        foreach (long page in pages)
            map[page] = true;
        return map;
    }

    private bool FasterWhenHot(PushLook look)
    {
        if (look.HotPages > 0)
            _wire.Set(Faster);
        return true;
    }

    private async Task<TransferPair> FilledAsync()
    {
        TransferPair pair = new(Pages) { Plan = PullPlan.Default };
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync(cap: _wire);
        return pair;
    }

    /// <summary>Every scan finds all pages from <paramref name="first"/> on.</summary>
    private static void WriteAllTheTime(TransferPair pair, long first)
    {
        ulong version = 1;
        pair.Source.BeforeScan = _ =>
        {
            version++;
            for (long page = first; page < Pages; page++)
                pair.Source.GuestWrite(page, version);
        };
    }

    private static async Task FinishAsync(TransferPair pair)
    {
        pair.Source.BeforeScan = null;
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
    }
}
