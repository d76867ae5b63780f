using System.Globalization;
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

    /// <summary>The source is 'a'. Written NAME:SITE:GIB, '-' for no site; a host of 0 GiB can take nothing.</summary>
    [Theory]
    [InlineData("a:east:9 b:east:4 c:west:8", "b")] // a choice: the same site, although it has less left
    [InlineData("a:east:9 b:east:0 c:west:8", "c")] // no choice
    [InlineData("a:east:9 b:west:4 c:west:8", "c")]
    [InlineData("a:east:9 b:-:8 c:east:4", "c")] // a host without a site is in none
    [InlineData("a:-:9 b:east:4 c:west:8", "c")] // a source without a site prefers none
    [InlineData("a:-:9 b:-:4 c:west:8", "c")]
    [InlineData("b:east:4 c:west:8", "c")] // a source that is gone has none
    [InlineData("a:east:9 b:east:4 c:east:8", "c")] // within the site as without sites
    public void A_host_of_the_same_site_is_preferred_when_there_is_a_choice(string hosts, string expected)
    {
        var placed = BatchPlanner.Place(A, [Vm("v", 2)], [.. hosts.Split(' ').Select(Sited)]);
        Assert.Equal(expected, placed[0].Destination?.Value);
    }

    [Fact]
    public void What_the_own_site_has_no_room_for_goes_to_the_other()
    {
        var placed = BatchPlanner.Place(A, [Vm("v1", 3), Vm("v2", 3), Vm("v3", 3)], [Sited("a:east:9"), Sited("b:east:7"), Sited("c:west:9")]);
        Assert.Equal(["b", "b", "c"], placed.Select(static p => p.Destination?.Value));
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

    private static PlannerHost Sited(string text)
    {
        string[] parts = text.Split(':');
        var host = Host(HostName.Parse(parts[0]), long.Parse(parts[2], CultureInfo.InvariantCulture));
        return SiteName.TryParse(parts[1], out var site) ? host with { Site = site } : host;
    }

    private static PlannerVm Vm(string name, long gib) => new(
        new VmSpec { Name = VmName.Parse(name), Machine = MachineKind.Synthetic, MemoryBytes = gib * ByteSize.Gibi }, null);

    private static PlannerHost Host(HostName name, long gib) => new(name, false, true, gib * ByteSize.Gibi, 0, [MachineKind.Synthetic]);
}
