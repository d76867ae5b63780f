using Fabric.Core;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Journal;

/// <summary>The view: compare and swap, beats, final states, bounds, a new cluster id.</summary>
public abstract partial class JournalContract
{
    private static MemberJoins Joins(Guid node, string name = "alpha") => new(node, name, $"http://{name}:1", $"http://{name}:2");

    private async Task<ClusterView> ChangeAsync(params ViewChange[] changes)
    {
        var (now, changed) = await Membership.ChangeAsync(await Membership.ReadViewAsync(None), changes, None);
        Assert.True(changed);
        return now;
    }

    [SkippableFact]
    public async Task A_member_joins_beats_and_leaves_by_the_stores_clock()
    {
        var empty = await Membership.ReadViewAsync(None);
        Assert.NotEqual(Guid.Empty, empty.Cluster);
        Assert.Empty(empty.Members);
        Guid alpha = Guid.NewGuid();
        var joined = Assert.Single((await ChangeAsync(Joins(alpha))).Members);
        Assert.Equal(("alpha", "http://alpha:1", "http://alpha:2", MemberState.Joining), (joined.Name, joined.ClusterUrl, joined.ApiUrl, joined.State));
        await AdvanceAsync(Minute);
        await ChangeAsync(new MemberBecomes(alpha, MemberState.Up));
        await AdvanceAsync(Minute);
        var seen = await Membership.BeatAsync(alpha, None);
        var view = await Membership.ReadViewAsync(None);
        Assert.Equal((view.Cluster, view.Version), seen);
        Assert.Equal((empty.Cluster, empty.Version + 2), (view.Cluster, view.Version));
        var up = Assert.Single(view.Members);
        Assert.Equal((MemberState.Up, joined.Since + Minute, joined.Since + (2 * Minute)), (up.State, up.Since, up.BeatAt));
        await ReopenAsync();
        Assert.Equal(up, Assert.Single((await Membership.ReadViewAsync(None)).Members));
        Assert.True((await ChangeAsync(new MemberBecomes(alpha, MemberState.Leaving), new MemberBecomes(alpha, MemberState.Left))).Members[0].IsFinal);
    }

    [SkippableFact]
    public async Task Of_two_that_change_one_view_one_wins_and_the_other_sees_what_is()
    {
        await using var beside = await OpenAsync();
        var stores = new[] { Membership, (IMembership)beside };
        for (int round = 0; round < 10; round++)
        {
            var seen = await Membership.ReadViewAsync(None);
            var racers = await Task.WhenAll(Enumerable.Range(0, 2).Select(i => Task.Run(() => stores[i].ChangeAsync(seen, [Joins(Guid.NewGuid(), $"racer-{i}")], None))));
            Assert.Single(racers, r => r.Changed);
            var now = await Membership.ReadViewAsync(None);
            Assert.All(racers, r => Assert.Equal((now.Cluster, now.Version, now.Members.Length), (r.Now.Cluster, r.Now.Version, r.Now.Members.Length)));
            Assert.Equal((seen.Version + 1, round + 1), (now.Version, now.Members.Length));
        }
    }

    [SkippableTheory]
    [InlineData(MemberState.Dead, MemberState.Up)]
    [InlineData(MemberState.Dead, MemberState.Left)]
    [InlineData(MemberState.Left, MemberState.Dead)]
    [InlineData(MemberState.Left, MemberState.Up)]
    public async Task Final_is_final(MemberState final, MemberState wanted)
    {
        Guid alpha = Guid.NewGuid(), beta = Guid.NewGuid();
        var view = await ChangeAsync(Joins(alpha), Joins(beta, "beta"), new MemberBecomes(alpha, final));
        var beat = view.Find(alpha)!.BeatAt;
        foreach (var change in new ViewChange[] { new MemberBecomes(alpha, wanted), Joins(alpha), new MemberIsSuspected(alpha, beta), new MemberIsSuspected(beta, alpha) })
        {
            var refused = await Assert.ThrowsAsync<FabricException>(() => Membership.ChangeAsync(view, [Joins(Guid.NewGuid(), "beside"), change], None));
            Assert.Equal(ErrorCodes.Conflict, refused.Error.Code);
            Assert.Contains("'alpha'", refused.Error.Message, StringComparison.Ordinal);
        }

        await AdvanceAsync(Minute);
        Assert.Equal((view.Cluster, view.Version), await Membership.BeatAsync(alpha, None));
        Assert.Equal((view.Cluster, view.Version), await Membership.BeatAsync(Guid.NewGuid(), None));
        var now = await Membership.ReadViewAsync(None);
        Assert.Equal((view.Version, 2, beat), (now.Version, now.Members.Length, now.Find(alpha)!.BeatAt));
    }

    [SkippableFact]
    public async Task Suspicions_are_kept_until_withdrawn_or_one_of_the_two_is_final()
    {
        Guid a = Guid.NewGuid(), b = Guid.NewGuid(), c = Guid.NewGuid();
        var view = await ChangeAsync(Joins(a), Joins(b, "beta"), Joins(c, "gamma"), new MemberIsSuspected(a, b), new MemberIsSuspected(a, c), new MemberIsSuspected(b, c));
        await AdvanceAsync(Minute);
        var again = await ChangeAsync(new MemberIsSuspected(a, b), new SuspicionIsWithdrawn(a, c));
        Assert.Equal(view.Suspicions.Where(s => (s.Node, s.By) != (a, c)).ToHashSet(), again.Suspicions.ToHashSet());
        await ChangeAsync(new MemberBecomes(b, MemberState.Dead));
        Assert.Empty((await Membership.ReadViewAsync(None)).Suspicions);
        var nobody = await Assert.ThrowsAsync<FabricException>(() => ChangeAsync(new MemberIsSuspected(a, Guid.NewGuid())));
        Assert.Equal(ErrorCodes.NotFound, nobody.Error.Code);
    }

    [SkippableFact]
    public async Task Members_are_bounded_and_old_final_ones_are_forgotten()
    {
        var nodes = Enumerable.Range(0, ViewRules.LiveMembers).Select(_ => Guid.NewGuid()).ToArray();
        var full = await ChangeAsync([.. nodes.Select((n, i) => Joins(n, $"n{i}"))]);
        Assert.Equal(nodes, full.Members.Select(m => m.Node));
        var refused = await Assert.ThrowsAsync<FabricException>(() => ChangeAsync(Joins(Guid.NewGuid())));
        Assert.Equal(ErrorCodes.Exhausted, refused.Error.Code);
        await ChangeAsync([.. nodes.Select(n => new MemberBecomes(n, MemberState.Dead))]);
        await AdvanceAsync(Minute);
        var later = Enumerable.Range(0, 10).Select(_ => Guid.NewGuid()).ToArray();
        await ChangeAsync([.. later.Select(n => Joins(n)), .. later.Select(n => new MemberBecomes(n, MemberState.Left))]);
        var view = await Membership.ReadViewAsync(None);
        Assert.Equal(ViewRules.FinalMembers, view.Members.Length);
        Assert.All(later, n => Assert.NotNull(view.Find(n)));
        await Assert.ThrowsAsync<FabricException>(() => Membership.ChangeAsync(view, [], None));
    }

    [SkippableFact]
    public async Task A_new_cluster_id_frees_all_leases_keeps_epochs_and_is_given_once()
    {
        var first = await AcquireAsync();
        var second = await AcquireAsync(shard: new ShardId(4));
        Guid alpha = Guid.NewGuid();
        var before = await ChangeAsync(Joins(alpha));
        var racers = await Task.WhenAll(Enumerable.Range(0, 2).Select(_ => Task.Run(() => Membership.RenewClusterAsync(before.Cluster, None))));
        Assert.Single(racers, r => r.Changed);
        var after = await Membership.ReadViewAsync(None);
        Assert.All(racers, r => Assert.Equal(after.Cluster, r.Now.Cluster));
        Assert.NotEqual(before.Cluster, after.Cluster);
        Assert.Equal(before.Members.AsEnumerable(), after.Members);
        Assert.False((await Membership.ChangeAsync(before, [new MemberBecomes(alpha, MemberState.Up)], None)).Changed);
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(first, Stream, 0, Events(1, 1), None));
        Assert.Equal((null, JournalRefusal.Fenced), await Store.RenewAsync(second, Minute, None));
        Assert.Equal(first.Epoch.Next, (await AcquireAsync("beta")).Epoch);
    }
}
