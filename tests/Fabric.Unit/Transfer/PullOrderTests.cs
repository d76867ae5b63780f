using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// Every page order over loopback sockets, hybrid, with a guest that reads at random meanwhile. The destination refuses a page that comes twice and does not end
/// before it has all; the memories are compared at the end.
/// </summary>
public sealed class PullOrderTests
{
    private const int Pages = 6000;

    public static TheoryData<PageOrder> Orders => [.. Enum.GetValues<PageOrder>()];

    [Theory(Timeout = 60_000)]
    [MemberData(nameof(Orders))]
    public async Task Every_order_brings_the_whole_memory(PageOrder order)
    {
        await using TransferPair pair = new(Pages) { Plan = new PullPlan(order, 3) };
        for (long page = 0; page < Pages; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        // Three rounds, so that there is a history of several generations; what is written afterwards is to be pulled.
        for (ulong round = 2; round < 5; round++)
        {
            await pair.Outgoing.PushRoundAsync(default);
            for (long page = (long)round; page < Pages; page += 3)
                pair.Source.GuestWrite(page, round);
        }

        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
        Task reading = Task.Factory.StartNew(
            () =>
            {
                Random random = new(5);
                for (int i = 0; i < 300; i++)
                {
                    long page = random.NextInt64(Pages);
                    Assert.Equal(pair.Source.Peek(page), pair.Destination.GuestRead(page));
                }
            },
            TaskCreationOptions.LongRunning);
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        await reading;
        Assert.Empty(pair.Differences());
        Assert.Equal(0, pair.Outgoing.Snapshot().RemainingBytes);
    }

    [Theory(Timeout = 60_000)]
    [InlineData(PageOrder.DualMultiLru, new long[] { 1800, 1500, 200 })]
    [InlineData(PageOrder.PushOnly, new long[] { 1800, 200, 1500 })]
    public async Task What_the_last_scan_found_goes_first_and_in_an_lru_order_the_scans_before_it_follow(PageOrder order, long[] expected)
    {
        TransferSettings settings = new() { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, PullFramePages = 1 };
        await using TransferPair pair = new(2000, bulk: 1, settings: settings) { Plan = new PullPlan(order) };
        pair.Source.GuestWrite(0, 1);
        await pair.ConnectAsync();
        // Scans: at the end of the round, when the VM stands, and when its state has been saved.
        pair.Source.BeforeScan = scan => pair.Source.GuestWrite(scan switch { 0 => 200, 1 => 1500, _ => 1800 }, 2);
        await pair.Outgoing.PushRoundAsync(default);
        await pair.FinishAsync(HandOverKind.Pull);
        List<long> installed = [];
        pair.Destination.WhenInstalled = run => installed.Add(run.First);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Equal(expected, installed);
        Assert.Empty(pair.Differences());
    }

    [Fact(Timeout = 60_000)]
    public async Task Without_rounds_too_what_was_written_while_the_guest_was_being_stopped_goes_first()
    {
        TransferSettings settings = new() { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, PullFramePages = 1 };
        await using TransferPair pair = new(2000, bulk: 1, settings: settings);
        pair.Source.Watch = () => false; // or all that is not written would be there before the pull
        foreach (long page in (long[])[3, 700, 1500])
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        pair.Source.GuestWrite(700, 2);
        // Asked for once more when the stop is near: what is known by then stays known.
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Pull, default);
        await pair.FinishAsync(HandOverKind.Pull);
        List<long> installed = [];
        pair.Destination.WhenInstalled = run => installed.Add(run.First);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Equal([700, 3, 1500], installed);
    }

    /// <summary>
    /// Two pages are read while the device state is loaded, when nothing is pushed yet. What goes along with the first is on the urgent connection before the second, so it has arrived by then.
    /// </summary>
    [Theory(Timeout = 60_000)]
    [InlineData(PageOrder.PushOnly, 2, 2)]
    [InlineData(PageOrder.DualMulti, 9, 16)]
    public async Task Under_an_order_without_read_ahead_a_wanted_page_comes_alone(PageOrder order, int least, int most)
    {
        TransferSettings settings = new() { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, WithoutReadAhead = [PageOrder.PushOnly] };
        await using TransferPair pair = new(2000, bulk: 1, settings: settings) { Plan = new PullPlan(order) };
        for (long page = 0; page < 2000; page++)
            pair.Source.GuestWrite(page, 1);
        PageBitmap present = new(2000);
        pair.WhileLoading = () => Task.Factory.StartNew(
            () =>
            {
                pair.Destination.GuestRead(500);
                pair.Destination.GuestRead(1500);
                pair.Destination.ReadPresence(present);
            },
            TaskCreationOptions.LongRunning);
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.InRange(present.CountSet(), least, most);
        Assert.Empty(pair.Differences());
    }
}
