using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Cluster;

public sealed class ShardPlacementTests
{
    private static readonly ShardMap Map = new(512);

    [Fact]
    public void Every_shard_has_exactly_one_place_and_nodes_share_evenly()
    {
        var view = View("a", "b", "c");
        var shares = view.Members.Select(m => ShardPlacement.Of(view, m.Node, Map)).ToList();
        Assert.Equal(Map.Count, shares.Sum(static s => s.Count));
        Assert.Equal(Map.Count, shares.SelectMany(static s => s).Distinct().Count());
        Assert.All(shares, share => Assert.InRange(share.Count, Map.Count / 5, Map.Count / 2));
    }

    [Fact]
    public void A_node_that_comes_takes_shards_and_moves_no_other()
    {
        var before = View("a", "b", "c");
        var after = before with { Members = before.Members.Add(Node("d")) };
        foreach (var shard in Map.All.Where(shard => ShardPlacement.Of(after, shard)!.Name != "d"))
            Assert.Equal(ShardPlacement.Of(before, shard), ShardPlacement.Of(after, shard));
        Assert.InRange(Map.All.Count(shard => ShardPlacement.Of(after, shard)!.Name == "d"), Map.Count / 8, Map.Count / 2);
    }

    [Theory]
    [InlineData(MemberState.Dead)]
    [InlineData(MemberState.Left)]
    [InlineData(MemberState.Leaving)]
    [InlineData(MemberState.Joining)]
    public void What_is_not_up_has_no_place_and_only_its_shards_move(MemberState state)
    {
        var before = View("a", "b", "c");
        var after = before with { Members = before.Members.SetItem(1, before.Members[1] with { State = state }) };
        Assert.Empty(ShardPlacement.Of(after, before.Members[1].Node, Map));
        foreach (var shard in Map.All.Where(shard => ShardPlacement.Of(before, shard)!.Name != "b"))
            Assert.Equal(ShardPlacement.Of(before, shard), ShardPlacement.Of(after, shard));
    }

    [Fact]
    public void A_later_life_of_a_name_gets_the_shards_of_the_earlier()
    {
        var before = View("a", "b", "c");
        var reborn = Node("b") with { Since = before.Members[1].Since.AddSeconds(1) };
        var after = before with { Members = before.Members.Add(reborn) };
        Assert.Empty(ShardPlacement.Of(after, before.Members[1].Node, Map));
        Assert.Equal(ShardPlacement.Of(before, before.Members[1].Node, Map), ShardPlacement.Of(after, reborn.Node, Map));
    }

    [Fact]
    public void Nobody_up_means_no_place() => Assert.Null(ShardPlacement.Of(View(), new ShardId(1)));

    private static ClusterView View(params string[] names) => new(Guid.NewGuid(), 1, [.. names.Select(Node)], []);

    private static Member Node(string name) => new(Guid.NewGuid(), name, "http://127.0.0.1:1", "http://127.0.0.1:2", MemberState.Up, DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch);
}
