using System.Collections.Concurrent;
using Fabric.Cluster.Membership;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Cluster;

/// <summary>Nodes over one real SQLite store and a network that the test cuts. Waits are for views, with a deadline.</summary>
public sealed class MembershipKeeperTests : IAsyncLifetime
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    private static readonly MembershipOptions Fast = new()
    {
        Period = TimeSpan.FromMilliseconds(20),
        ProbeDeadline = TimeSpan.FromMilliseconds(200),
        BeatLimit = TimeSpan.FromSeconds(3),
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-members").FullName;
    private readonly CutNetwork _network = new();
    private readonly List<MembershipKeeper> _keepers = [];
    private SqliteJournal _store = null!;

    public async Task InitializeAsync() =>
        _store = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = Path.Combine(_folder, "journal.db") }, TimeProvider.System, new Random(1), CancellationToken.None);

    public async Task DisposeAsync()
    {
        foreach (var keeper in _keepers)
            await keeper.DisposeAsync();
        await _store.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Nodes_that_join_see_each_other_up_and_one_that_leaves_left()
    {
        var (a, b) = (await JoinAsync("a"), await JoinAsync("b"));
        await SeesAsync(a, b, MemberState.Up);
        await SeesAsync(b, a, MemberState.Up);
        await b.AnnounceLeavingAsync(CancellationToken.None);
        await SeesAsync(a, b, MemberState.Leaving);
        await b.LeaveAsync(CancellationToken.None);
        await SeesAsync(a, b, MemberState.Left);
    }

    [Fact]
    public async Task A_node_that_dies_is_declared_dead_by_the_others()
    {
        var (a, b, c) = (await JoinAsync("a"), await JoinAsync("b"), await JoinAsync("c"));
        await SeesAsync(a, c, MemberState.Up);
        await c.DisposeAsync();
        _network.Down(c.Node);
        await SeesAsync(a, c, MemberState.Dead);
        await SeesAsync(b, c, MemberState.Dead);
        Assert.Equal(MemberState.Up, a.View.Find(b.Node)!.State);
    }

    [Fact]
    public async Task The_last_of_two_declares_the_other_dead_when_the_store_does_not_hear_it_either()
    {
        var (a, b) = (await JoinAsync("a"), await JoinAsync("b"));
        await b.DisposeAsync();
        _network.Down(b.Node);
        await SeesAsync(a, b, MemberState.Dead);
    }

    [Fact]
    public async Task A_cut_between_two_nodes_kills_neither_while_the_store_hears_both()
    {
        var (a, b, c) = (await JoinAsync("a"), await JoinAsync("b"), await JoinAsync("c"));
        _network.Cut(a.Node, b.Node);
        _network.Cut(b.Node, a.Node);
        await UntilAsync(() => c.View.Suspicions.Length == 2, "both suspect each other");
        await _network.ProbesAsync(from: a.Node, to: b.Node, more: 20);
        Assert.All(c.View.Members, m => Assert.Equal(MemberState.Up, m.State));
        _network.Heal();
        await UntilAsync(() => c.View.Suspicions.Length == 0, "suspicions are withdrawn");
    }

    [Fact]
    public async Task A_node_that_two_others_cannot_reach_is_expelled_although_it_beats()
    {
        var (a, b, c) = (await JoinAsync("a"), await JoinAsync("b"), await JoinAsync("c"));
        var expelled = new TaskCompletionSource();
        await using var told = c.Expelled.Register(expelled.SetResult);
        _network.Cut(a.Node, c.Node);
        _network.Cut(b.Node, c.Node);
        await expelled.Task.WaitAsync(Deadline);
        Assert.Equal(MemberState.Dead, c.View.Find(c.Node)!.State);
    }

    [Fact]
    public async Task Another_life_of_a_name_ends_the_one_before()
    {
        var (a, b) = (await JoinAsync("a"), await JoinAsync("b"));
        await b.DisposeAsync();
        var reborn = await JoinAsync("b");
        await SeesAsync(a, b, MemberState.Dead);
        await SeesAsync(a, reborn, MemberState.Up);
        Assert.NotEqual(b.Node, reborn.Node);
    }

    [Fact]
    public async Task Everybody_begins_anew_when_the_cluster_has_another_id()
    {
        var (a, b) = (await JoinAsync("a"), await JoinAsync("b"));
        await _store.RenewClusterAsync(a.View.Cluster, CancellationToken.None);
        await UntilAsync(() => a.Expelled.IsCancellationRequested && b.Expelled.IsCancellationRequested, "both are expelled");
    }

    /// <summary>A copy is put back under nodes that run: the version is one that they have left behind.</summary>
    [Fact]
    public async Task A_store_that_shows_an_older_version_is_given_another_id()
    {
        var (a, b) = (await JoinAsync("a"), await JoinAsync("b"));
        await SeesAsync(a, b, MemberState.Up);
        var cluster = a.View.Cluster;
        await using (var beside = new SqliteConnection($"Data Source={Path.Combine(_folder, "journal.db")}"))
        {
            await beside.OpenAsync();
            await using var back = new SqliteCommand("UPDATE cluster SET version = 1", beside);
            await back.ExecuteNonQueryAsync();
        }

        await UntilAsync(() => a.Expelled.IsCancellationRequested && b.Expelled.IsCancellationRequested, "both are expelled");
        Assert.NotEqual(cluster, (await _store.ReadViewAsync(CancellationToken.None)).Cluster);
    }

    private async Task<MembershipKeeper> JoinAsync(string name)
    {
        var node = Guid.NewGuid();
        var keeper = new MembershipKeeper(
            _store, new MemberJoins(node, name, $"http://{name}:1", $"http://{name}:2"), _network.For(node), TimeProvider.System, new Random(1), NullLogger<MembershipKeeper>.Instance, Fast);
        _keepers.Add(keeper);
        await keeper.JoinAsync(CancellationToken.None);
        return keeper;
    }

    private static Task SeesAsync(MembershipKeeper who, MembershipKeeper whom, MemberState state) =>
        UntilAsync(() => who.View.Find(whom.Node)?.State == state, $"the view says {state}");

    private static Task UntilAsync(Func<bool> condition, string what) => Eventually.HoldsAsync(condition, () => what, Deadline);

    /// <summary>Who can reach whom. It counts probes, so that a test can wait for some to have failed.</summary>
    private sealed class CutNetwork
    {
        private readonly ConcurrentDictionary<(Guid From, Guid To), bool> _cuts = new();
        private readonly ConcurrentDictionary<Guid, bool> _down = new();
        private readonly ConcurrentDictionary<(Guid From, Guid To), int> _probes = new();

        public IPeerProbe For(Guid node) => new Probe(this, node);

        public void Cut(Guid from, Guid to) => _cuts[(from, to)] = true;

        public void Heal() => _cuts.Clear();

        public void Down(Guid node) => _down[node] = true;

        public Task ProbesAsync(Guid from, Guid to, int more)
        {
            int until = _probes.GetValueOrDefault((from, to)) + more;
            return UntilAsync(() => _probes.GetValueOrDefault((from, to)) >= until, $"{more} more probes");
        }

        private sealed class Probe(CutNetwork network, Guid from) : IPeerProbe
        {
            public Task<bool> AnswersAsync(Member peer, CancellationToken cancellation)
            {
                network._probes.AddOrUpdate((from, peer.Node), 1, static (_, n) => n + 1);
                return Task.FromResult(!network._down.ContainsKey(peer.Node) && !network._cuts.ContainsKey((from, peer.Node)));
            }
        }
    }
}
