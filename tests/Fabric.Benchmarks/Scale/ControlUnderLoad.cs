using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Postgres;
using Fabric.Journal.Sqlite;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Supervisor.Routing;
using Microsoft.Extensions.Logging;

namespace Fabric.Benchmarks.Scale;

/// <summary>One control node, put together as fabricd does it, without its HTTP ports.</summary>
internal sealed class ControlUnderLoad : IAsyncDisposable
{
    private readonly IJournal _store;
    private readonly MembershipKeeper _members;
    private readonly ControlPlane _here;

    private ControlUnderLoad(IJournal store, CountingJournal journal, MembershipKeeper members, ControlPlane here, ShardRouter router) =>
        (_store, Journal, _members, _here, Plane) = (store, journal, members, here, new ClusterPlane(here, router));

    internal CountingJournal Journal { get; }

    internal ClusterPlane Plane { get; }

    internal static async Task<ControlUnderLoad> StartAsync(
        ScaleOptions options, string folder, InProcessGateway gateway, DecisionClock clock, TimeProvider time, Random random, ILoggerFactory logs, CancellationToken cancellation)
    {
        var (store, membership) = await OpenAsync(options, folder, time, random, cancellation);
        var journal = new CountingJournal(store, clock, time);
        var node = Guid.NewGuid();
        // What an operator of so many hosts sets: a host is emptied all at once, and the others take what comes.
        int perDestination = 2 * ((options.Concurrent / (options.Hosts - options.Evacuated)) + 1);
        var settings = SupervisorOptions.Default with { Limits = new BatchLimits(options.VmsPerHost, perDestination, perDestination) };
        var members = new MembershipKeeper(
            membership, new MemberJoins(node, "control", "http://in-process:2", "http://in-process:3"), new NoPeers(), time, new Random(random.Next()), logs.CreateLogger<MembershipKeeper>());
        var router = new ShardRouter(node, () => members.View, static _ => throw new FabricException(ErrorCodes.Unreachable, "There is no other node."), new ShardMap(settings.Shards), time, new Random(random.Next()));
        var here = new ControlPlane(journal, gateway, new HostRegistry(time), Member.HolderOf(node), time, new Random(random.Next()), logs, settings, router: router);
        await members.JoinAsync(cancellation);
        here.Start(members);
        await here.SettledAsync(cancellation);
        return new ControlUnderLoad(store, journal, members, here, router);
    }

    public async ValueTask DisposeAsync()
    {
        await _members.DisposeAsync();
        await _here.DisposeAsync();
        await _store.DisposeAsync();
    }

    private static async Task<(IJournal Journal, IMembership Membership)> OpenAsync(ScaleOptions options, string folder, TimeProvider time, Random random, CancellationToken cancellation)
    {
        if (options.Store == "postgres")
        {
            var postgres = await PostgresJournal.OpenAsync(new PostgresJournalOptions { ConnectionString = options.Connection! }, time, new Random(random.Next()), cancellation);
            return (postgres, postgres);
        }

        var sqlite = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = Path.Combine(folder, "journal.db") }, time, new Random(random.Next()), cancellation);
        return (sqlite, sqlite);
    }

    private sealed class NoPeers : IPeerProbe
    {
        public Task<bool> AnswersAsync(Member peer, CancellationToken cancellation) => Task.FromResult(false);
    }
}
