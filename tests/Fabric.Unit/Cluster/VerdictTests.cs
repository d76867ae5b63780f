using Fabric.Cluster.Membership;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Cluster;

/// <summary>Who is declared dead, by nodes that are up, by whether the accused still beats, and by how many suspect it.</summary>
public sealed class VerdictTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    [Theory]
    [InlineData(2, false, 1, false)] // one witness alone
    [InlineData(2, true, 1, true)] // one witness and the store
    [InlineData(2, true, 0, false)] // the store alone: its own clock may have jumped
    [InlineData(3, false, 1, false)]
    [InlineData(3, false, 2, true)]
    [InlineData(3, true, 1, true)]
    [InlineData(5, false, 2, false)] // two of four others are not more than half
    [InlineData(5, false, 3, true)]
    [InlineData(5, true, 1, true)]
    public void Nobody_dies_by_one_witness(int nodes, bool silent, int suspecting, bool dead)
    {
        var now = DateTimeOffset.UnixEpoch.AddHours(1);
        var members = Enumerable.Range(0, nodes)
            .Select(i => new Member(Guid.NewGuid(), $"n{i}", "", "", MemberState.Up, now, i == 0 && silent ? now - Limit - TimeSpan.FromMilliseconds(1) : now))
            .ToList();
        var suspicions = members.Skip(1).Take(suspecting).Select(m => new Suspicion(members[0].Node, m.Node, now));
        Assert.Equal(dead, Verdict.IsDead(new ClusterView(Guid.NewGuid(), 1, [.. members], [.. suspicions]), members[^1].Node, members[0].Node, Limit));
    }

    [Fact]
    public void The_word_of_a_node_that_is_not_up_does_not_count()
    {
        var now = DateTimeOffset.UnixEpoch;
        Member[] members = [Up("a"), Up("b") with { State = MemberState.Dead }, Up("c") with { State = MemberState.Dead }, Up("d")];
        var view = new ClusterView(Guid.NewGuid(), 1, [.. members], [.. members[1..].Select(m => new Suspicion(members[0].Node, m.Node, now))]);
        Assert.False(Verdict.IsDead(view, members[3].Node, members[0].Node, Limit));

        Member Up(string name) => new(Guid.NewGuid(), name, "", "", MemberState.Up, now, now);
    }

    /// <summary>Of two nodes one died; then the store's clock was set back. The beat of the dead one would be the newest for as long.</summary>
    [Theory]
    [InlineData(1.5, false)]
    [InlineData(3600, true)]
    public void A_beat_from_before_the_clock_was_set_back_is_silence(double aheadSeconds, bool dead)
    {
        var now = DateTimeOffset.UnixEpoch.AddHours(2);
        var accused = new Member(Guid.NewGuid(), "a", "", "", MemberState.Up, now, now + TimeSpan.FromSeconds(aheadSeconds));
        var judge = new Member(Guid.NewGuid(), "b", "", "", MemberState.Up, now, now);
        var view = new ClusterView(Guid.NewGuid(), 1, [accused, judge], [new Suspicion(accused.Node, judge.Node, now)]);
        Assert.Equal(dead, Verdict.IsDead(view, judge.Node, accused.Node, Limit));
    }

    [Fact]
    public void One_voter_counts_once()
    {
        var now = DateTimeOffset.UnixEpoch;
        Member[] members = [.. "abc".Select(c => new Member(Guid.NewGuid(), c.ToString(), "", "", MemberState.Up, now, now))];
        var twice = new Suspicion(members[0].Node, members[1].Node, now);
        Assert.False(Verdict.IsDead(new ClusterView(Guid.NewGuid(), 1, [.. members], [twice, twice]), members[2].Node, members[0].Node, Limit));
    }
}
