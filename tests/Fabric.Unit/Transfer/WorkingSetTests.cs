using Fabric.Core;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// What goes to the destination before a post-copy guest stops. How much of it went is read from what is missing afterwards; what went first, from what is there where the wire carries a part only; that
/// nothing of it is stale, from the bytes of both memories and from the digests of all pages, which the destination compares by itself.
/// </summary>
public sealed class WorkingSetTests
{
    private const int Second = 1000;
    private const long Pages = 9000;
    private const long Few = 3000; // to be pulled over a slow wire

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    [Fact(Timeout = 60 * Second)]
    public async Task What_the_guest_does_not_write_goes_once_and_is_there_before_it_runs_there()
    {
        // As long as it takes: how busy this machine is must not decide what goes.
        await using TransferPair pair = new(Pages, settings: Within(TimeSpan.FromSeconds(30)));
        long[] read = [3, 500, 501, .. Enumerable.Range(4096, 200).Select(p => (long)p), Pages - 1];
        pair.Source.BeforeScan = scan =>
        {
            if (scan > 0)
                return;
            foreach (long page in read)
                pair.Source.GuestRead(page);
            pair.Source.GuestWrite(501, 2);
        };
        await WatchAsync(pair);
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        Assert.Equal(Pages - 1, pair.Outgoing.Snapshot().PagesSent);
        // Written after it was sent: stale. Given back: a hole there too. All else needs no wire any more.
        pair.Source.GuestWrite(4100, 3);
        pair.Source.GuestGiveBack(4101);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.Equal(2, pair.Pull.MissingCount);
        foreach (long page in read.Where(p => p is not 501 and not 4100).Append(7))
            Assert.Equal(pair.Source.Peek(page), pair.Destination.GuestRead(page));
        await EndsWholeWithoutFaultsAsync(pair);
    }

    /// <summary>
    /// What the guest does between two looks: a page that it comes to read goes as well, ahead of those that it does not touch, and one that it writes after it was sent is missing again, although the scan
    /// after the stop does not find it.
    /// </summary>
    [Fact(Timeout = 60 * Second)]
    public async Task What_happens_between_two_looks_is_seen()
    {
        await using TransferPair pair = new(Few, settings: Within(TimeSpan.FromSeconds(1)));
        pair.Source.WhenLookedAt = look =>
        {
            long[] read = look switch { 1 => [Few - 100, Few - 300], 2 => [Few - 500], _ => [] };
            foreach (long page in read)
                pair.Source.GuestRead(page);
            if (look == 2)
                pair.Source.GuestWrite(Few - 300, 2);
        };
        await WatchAsync(pair, SlowWire());
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.InRange(pair.Pull.MissingCount, Few / 3, Few - 2);
        Assert.True(pair.Pull.Missing.Bit(Few - 300));
        foreach (long page in new[] { Few - 100, Few - 500 })
            Assert.Equal(pair.Source.Peek(page), pair.Destination.GuestRead(page));
        await EndsWholeWithoutFaultsAsync(pair);
    }

    /// <summary>Of a page that is all zero nothing is kept at the destination; it was pushed all the same: once, the guest does not ask for it, and a later write makes it missing.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task Pages_of_zeros_are_pushed_once_and_not_asked_for()
    {
        await using TransferPair pair = new(Few, settings: Within(TimeSpan.FromSeconds(1)));
        long[] zeros = [Few - 100, Few - 300];
        int looks = 0;
        pair.Source.WhenLookedAt = look =>
        {
            looks = look;
            foreach (long page in zeros)
                pair.Source.GuestRead(page);
        };
        await WatchAsync(pair, SlowWire(), zeros);
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        Assert.InRange(looks, 3, 100);
        Assert.Equal(zeros.Length, pair.Outgoing.Snapshot().PagesZero);
        pair.Source.GuestWrite(Few - 300, 2);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.True(pair.Pull.Missing.Bit(Few - 300));
        Assert.Equal(pair.Source.Peek(Few - 100), pair.Destination.GuestRead(Few - 100));
        await EndsWholeWithoutFaultsAsync(pair);
    }

    [Theory(Timeout = 60 * Second)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_guest_that_cannot_be_watched_is_pulled_as_it_is(bool fails)
    {
        await using TransferPair pair = new(Pages);
        Fill(pair.Source);
        pair.Source.Watch = () => fails ? throw new FabricException(ErrorCodes.DeadlineExceeded, "The machine says nothing.") : false;
        await pair.ConnectAsync();
        for (int i = 0; i < 2; i++)
        {
            await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
            pair.Source.GuestRead(77);
        }

        await pair.FinishAsync(HandOverKind.Pull);
        Assert.Equal(Pages, pair.Pull.MissingCount);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_move_that_is_given_up_while_it_pushes_ahead_leaves_a_guest_that_is_not_tracked()
    {
        await using TransferPair pair = new(Few, settings: Within(TimeSpan.FromSeconds(30)));
        TaskCompletionSource looked = new();
        pair.Source.WhenLookedAt = _ => looked.TrySetResult();
        await WatchAsync(pair, SlowWire());
        await looked.Task;
        await pair.DisconnectAsync();
        Assert.False(pair.Source.IsTracking);
    }

    /// <summary>A wire of 4 MiB/s and a guest that reads all of its 35 MiB: a second is not enough, and what was not sent by then is pulled. The guest's lone pages went first.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task A_working_set_beyond_the_wire_is_cut_and_lone_pages_go_first()
    {
        await using TransferPair pair = new(Pages, settings: Within(TimeSpan.FromSeconds(1)));
        long[] lone = [Pages - 600, Pages - 500, Pages - 400];
        pair.Source.WhenLookedAt = look =>
        {
            foreach (long page in Enumerable.Range(0, look > 1 ? 0 : (int)Pages - 640).Select(p => (long)p).Concat(lone))
                pair.Source.GuestRead(page);
        };
        await WatchAsync(pair, SlowWire());
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.InRange(pair.Pull.MissingCount, Pages / 2, Pages - lone.Length);
        foreach (long page in lone)
            Assert.Equal(pair.Source.Peek(page), pair.Destination.GuestRead(page));
        Assert.Equal(0, pair.Incoming.Snapshot().NetworkFaults ?? 0);
    }

    /// <summary>
    /// From the first page that the loading of the device state wants, what the guest wrote with few neighbours comes as well, before the token. What it wrote among many does not: a want that is answered
    /// later brings its own block of eight and nothing else.
    /// </summary>
    [Fact(Timeout = 60 * Second)]
    public async Task Lone_pages_that_the_guest_writes_are_there_before_it_runs()
    {
        await using TransferPair pair = new(Few, settings: Within(TimeSpan.FromSeconds(30)));
        long[] lone = [70, 700, 701, 1800, Few - 1];
        long[] crowded = [.. Enumerable.Range(1024, 48).Select(p => (long)p)];
        pair.Source.BeforeScan = scan =>
        {
            foreach (long page in scan == 1 ? lone.Concat(crowded) : [])
                pair.Source.GuestWrite(page, 2);
        };
        await WatchAsync(pair);
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.Equal(lone.Length + crowded.Length, pair.Pull.MissingCount);
        await ReadAsync(lone[3]);
        await ArriveAsync(lone.Length + 1); // in place of the one that was asked for the next likely page went
        await ReadAsync(crowded[20]);
        await ArriveAsync(lone.Length + 1 + 8);
        foreach (long page in lone)
            await ReadAsync(page);
        Assert.Equal(2, pair.Incoming.Snapshot().NetworkFaults);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());

        async Task ArriveAsync(int pages)
        {
            await Eventually.HoldsAsync(() => pair.Pull.ArrivedCount >= pages, () => $"{pair.Pull.ArrivedCount} pages came", Deadline);
            Assert.Equal(pages, pair.Pull.ArrivedCount);
        }

        async Task ReadAsync(long page) => Assert.Equal(pair.Source.Peek(page), await Task.Run(() => pair.Destination.GuestRead(page)));
    }

    /// <summary>Carries some hundred pages while a test lasts.</summary>
    private static BandwidthCap SlowWire() => new(4 * ByteSize.Mebi, TimeProvider.System);

    /// <summary>A guest that has written all of its pages but a few, which are all zero; connected, and watched from now on.</summary>
    private static async Task WatchAsync(TransferPair pair, BandwidthCap? cap = null, params long[] zeros)
    {
        Fill(pair.Source);
        foreach (long page in zeros)
            pair.Source.GuestZero(page);
        await pair.ConnectAsync(cap: cap);
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
    }

    /// <summary>Nothing that was touched here until now, before the token, when nothing comes by itself, had to be asked for; and what is pulled after that makes the guest whole.</summary>
    private static async Task EndsWholeWithoutFaultsAsync(TransferPair pair)
    {
        Assert.Equal(0, pair.Incoming.Snapshot().NetworkFaults ?? 0);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
    }

    private static TransferSettings Within(TimeSpan time) => new() { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, WorkingSetTime = time };

    // Of what can be packed a slow wire carries as much as a fast one.
    private static void Fill(FakeGuest guest)
    {
        Random random = new(1);
        for (long page = 0; page < guest.PageCount; page++)
            guest.GuestNoise(page, random);
    }
}
