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
}
