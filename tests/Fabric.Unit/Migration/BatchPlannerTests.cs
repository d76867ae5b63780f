using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration;

public sealed class BatchPlannerTests
{
    private static readonly HostName A = HostName.Parse("a");
    private static readonly HostName B = HostName.Parse("b");
    private static readonly HostName C = HostName.Parse("c");

    [Fact]
    public void Alike_vms_are_spread_over_alike_hosts()
    {
        var placed = BatchPlanner.Place(A, [.. Enumerable.Range(0, 6).Select(static i => Vm($"v{i}", 1))], [Host(A, 100), Host(B, 10), Host(C, 10)]);
        Assert.Equal(3, placed.Count(static p => p.Destination == B));
        Assert.Equal(3, placed.Count(static p => p.Destination == C));
    }

    [Fact]
    public void The_largest_finds_its_place_before_the_small_ones_take_it()
    {
        var placed = BatchPlanner.Place(A, [Vm("s1", 2), Vm("s2", 2), Vm("large", 8)], [Host(B, 8), Host(C, 4)]);
        Assert.Equal([C, C, B], placed.Select(static p => p.Destination!.Value));
    }

    [Fact]
    public void What_stays_says_why_for_every_host()
    {
        var placed = BatchPlanner.Place(
            A, [Vm("v", 8), new PlannerVm(Vm("paused", 1).Spec, new FabricError(ErrorCodes.Conflict, "paused"))],
            [Host(A, 100), Host(B, 4), Host(C, 100) with { Cordoned = true }]);
        Assert.Null(placed[0].Destination);
        Assert.Contains("'b' has 4.0 GiB", placed[0].Why!.Message, StringComparison.Ordinal);
        Assert.Contains("'c' is cordoned", placed[0].Why!.Message, StringComparison.Ordinal);
        Assert.Equal("paused", placed[1].Why!.Message);
        Assert.Contains("no other host", BatchPlanner.Place(A, [Vm("v", 1)], [Host(A, 9)])[0].Why!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_vm_without_a_place_in_a_data_centre_names_a_few_hosts()
    {
        var hosts = Enumerable.Range(0, 1000).Select(static i => Host(HostName.Parse($"h{i}"), 1)).ToList();
        string why = BatchPlanner.Place(A, [Vm("v", 8)], hosts)[0].Why!.Message;
        Assert.Contains("'h0' has 1.0 GiB", why, StringComparison.Ordinal);
        Assert.EndsWith($" Nor can {1000 - BatchPlanner.HostsNamed} others.", why, StringComparison.Ordinal);
        Assert.True(why.Length < 2000, why);
    }

    private static PlannerVm Vm(string name, long gib) => new(
        new VmSpec { Name = VmName.Parse(name), Machine = MachineKind.Synthetic, MemoryBytes = gib * ByteSize.Gibi }, null);

    private static PlannerHost Host(HostName name, long gib) => new(name, false, true, gib * ByteSize.Gibi, 0, [MachineKind.Synthetic]);
}
