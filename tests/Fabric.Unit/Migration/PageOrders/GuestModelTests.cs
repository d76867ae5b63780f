using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>
/// Counts network faults of modelled guests under each variant, and asks for the ordering that the paper measured: push-only worst; a single pivot better; several pivots
/// best when many processes run. The figures are the model's, not a machine's: they are printed, and only their order is asserted.
/// </summary>
public sealed class GuestModelTests(ITestOutputHelper output)
{
    private const int Pages = 64 * 1024;

    [Fact]
    public void One_sequential_process_faults_least_where_the_push_follows_it()
    {
        var faults = CountAll(new GuestModel.Setting(Pages, 1, 16 * 1024, 40_000, TouchesPerTick: 0.5, Slice: 64, Sweep));
        foreach (var (variant, count) in faults.Where(f => f.Key is not PageOrder.PushOnly))
            Assert.True(count * 4 < faults[PageOrder.PushOnly], $"{variant}: {count}, push-only: {faults[PageOrder.PushOnly]}");
    }

    [Fact]
    public void Many_sequential_processes_fault_least_with_many_pivots()
    {
        var faults = CountAll(new GuestModel.Setting(Pages, 32, 1024, 20_000, TouchesPerTick: 0.5, Slice: 64, Sweep));
        AssertThePapersOrder(faults);
        Assert.True(faults[PageOrder.ForwardMulti] < faults[PageOrder.Forward]);
    }

    [Fact]
    public void Many_processes_that_sort_fault_least_with_many_pivots()
    {
        // Half of each process goes downward. There forward bubbles are of no use to it: the page above its fault was sent already, which closes the edge at once.
        var faults = CountAll(new GuestModel.Setting(Pages, 32, 1024, 20_000, TouchesPerTick: 0.5, Slice: 64, FromBothEnds));
        AssertThePapersOrder(faults);
        Assert.True(faults[PageOrder.Dual] < faults[PageOrder.Forward]);
        Assert.True(faults[PageOrder.DualMulti] * 100 <= faults[PageOrder.PushOnly] * 27, "the paper's share for 32 sorting processes is 27 %");
    }

    private static void AssertThePapersOrder(Dictionary<PageOrder, long> faults)
    {
        Assert.All(faults.Where(f => f.Key != PageOrder.PushOnly), f => Assert.True(f.Value < faults[PageOrder.PushOnly], $"{f.Key}"));
        Assert.All(faults.Where(f => f.Key is PageOrder.Forward or PageOrder.Dual), f => Assert.True(faults[PageOrder.DualMulti] < f.Value, $"{f.Key}"));
    }

    private Dictionary<PageOrder, long> CountAll(GuestModel.Setting setting)
    {
        Dictionary<PageOrder, long> faults = [];
        foreach (PageOrder variant in (PageOrder[])[PageOrder.PushOnly, PageOrder.Forward, PageOrder.Dual, PageOrder.ForwardMulti, PageOrder.DualMulti])
        {
            PageBitmap lacking = new(setting.Pages);
            lacking.SetAll();
            faults[variant] = new GuestModel(setting, lacking, new PullPlan(variant).Begin(lacking)).CountNetworkFaults();
            output.WriteLine($"{variant,-14}{faults[variant],8} network faults, {100.0 * faults[variant] / faults[PageOrder.PushOnly]:0} % of push-only");
        }

        return faults;
    }

    private static int Sweep(int n, int size) => n % size;

    // As the partition step of a sort does: from both ends to the middle, the two in turn, eight pages each.
    private static int FromBothEnds(int n, int size)
    {
        int within = ((n / 16 * 8) + (n % 8)) % (size / 2);
        return n / 8 % 2 == 0 ? within : size - 1 - within;
    }
}
