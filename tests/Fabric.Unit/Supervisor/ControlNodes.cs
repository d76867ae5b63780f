using System.Collections.Concurrent;
using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Fabric.Supervisor;
using Fabric.Supervisor.Routing;
using Fabric.Wire.Api;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Supervisor;

/// <summary>Several control nodes over one SQLite store and the model hosts; the network between the nodes is method calls.</summary>
internal sealed class ControlNodes : IAsyncDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    private static readonly MembershipOptions Fast = new()
    {
        Period = TimeSpan.FromMilliseconds(30),
        ProbeDeadline = TimeSpan.FromMilliseconds(200),
        BeatLimit = TimeSpan.FromSeconds(1),
    };

    private readonly SqliteJournal _store;
    private readonly ConcurrentDictionary<string, Node> _nodes = new(StringComparer.Ordinal);

    private ControlNodes(SqliteJournal store) => _store = store;

    public ModelCluster Cluster { get; } = new();

    public ErrorLog Log { get; } = new();

    public static SupervisorOptions Options { get; } = new()
    {
        Shards = 8,
        FactsWait = TimeSpan.FromMilliseconds(200),
        PollRetry = TimeSpan.FromMilliseconds(10),
        CommandRetry = TimeSpan.FromMilliseconds(5),
        ReadPeriod = TimeSpan.FromMilliseconds(20),
        Ask = TimeSpan.FromSeconds(15),
        RegisterWithin = TimeSpan.Zero,
        Lease = new LeaseOptions { Duration = TimeSpan.FromSeconds(30), Retry = TimeSpan.FromMilliseconds(20) },
    };

    public static async Task<ControlNodes> StartAsync(string folder, params string[] names)
    {
        var store = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = Path.Combine(folder, "journal.db") }, TimeProvider.System, new Random(1), CancellationToken.None);
        var nodes = new ControlNodes(store);
        foreach (string host in new[] { "alpha", "beta", "gamma" })
            nodes.Cluster.Add(host, 8 * ByteSize.Gibi);
        foreach (string name in names)
            await nodes.JoinAsync(name);
        return nodes;
    }

    public async Task<Node> JoinAsync(string name)
    {
        var id = Guid.NewGuid();
        string url = $"http://{name}-{id:N}:1/";
        var gateway = new ModelGateway(Cluster);
        var journal = new CutJournal(_store);
        int seed = 3 * (_nodes.Count + 1); // its own: nodes that draw alike in the same millisecond give two migrations the same id
        var members = new MembershipKeeper(
            _store, new MemberJoins(id, name, url, url), new Probe(this), TimeProvider.System, new Random(seed), NullLogger<MembershipKeeper>.Instance, Fast);
        var router = new ShardRouter(id, () => members.View, PeerOf, new ShardMap(Options.Shards), TimeProvider.System, new Random(seed + 1));
        var here = new ControlPlane(
            journal, gateway, new HostRegistry(TimeProvider.System), Member.HolderOf(id), TimeProvider.System, new Random(seed + 2), Log, Options, router: router);
        var node = new Node(name, id, members, here, new ClusterPlane(here, router), gateway, journal);
        _nodes[url] = node;
        await members.JoinAsync(CancellationToken.None);
        here.Start(members);
        foreach (var agent in Cluster.Agents.Values)
            await here.RegisterHostAsync(ControlBench.Registration(agent), CancellationToken.None);
        await here.SettledAsync(CancellationToken.None).WaitAsync(Deadline);
        await UntilAsync(async () => (await here.ListHostsAsync(default)).All(static h => h.State == "ready"), $"{name} hears all hosts");
        return node;
    }

    public static Task UntilAsync(Func<Task<bool>> condition, string what) => UntilAsync(condition, () => what);

    public static Task UntilAsync(Func<Task<bool>> condition, Func<string> what) => Eventually.HoldsAsync(condition, what, Deadline);

    public static async Task<MigrationReport> EndOfAsync(Node node, string id)
    {
        MigrationReport? report = null;
        await UntilAsync(async () => ControlBench.Over((report = await node.Everywhere.GetMigrationAsync(id, default)).State), () => $"migration {id} ends (it is {report?.State})");
        return report!;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var node in _nodes.Values)
            await node.DisposeAsync();
        Assert.Empty(Log.Errors); // a shard that could not be read, an actor that failed
        await _store.DisposeAsync();
    }

    private IShardCommands PeerOf(Member member) => _nodes.TryGetValue(member.ClusterUrl, out var node) && !node.Journal.IsCut
        ? node.Here
        : throw new FabricException(ErrorCodes.Unreachable, $"{member.Name} does not answer.");

    internal sealed record Node(
        string Name, Guid Id, MembershipKeeper Members, ControlPlane Here, ClusterPlane Everywhere, ModelGateway Gateway, CutJournal Journal) : IAsyncDisposable
    {
        private int _disposed;

        /// <summary>As by kill -9: nothing of this node reaches agents, store or other nodes any more; its leases stand as they are.</summary>
        public async Task KillAsync()
        {
            Journal.IsCut = true;
            Gateway.Kill();
            await DisposeAsync();
        }

        public async Task LeaveAsync()
        {
            await Members.AnnounceLeavingAsync(CancellationToken.None);
            await Here.LeaveShardsAsync();
            await Members.LeaveAsync(CancellationToken.None);
        }

        public async ValueTask DisposeAsync()
        {
            if (Interlocked.Exchange(ref _disposed, 1) != 0)
                return;
            await Members.DisposeAsync();
            await Here.DisposeAsync();
        }
    }

    private sealed class Probe(ControlNodes nodes) : IPeerProbe
    {
        public Task<bool> AnswersAsync(Member peer, CancellationToken cancellation) =>
            Task.FromResult(nodes._nodes.TryGetValue(peer.ClusterUrl, out var node) && !node.Journal.IsCut);
    }
}
