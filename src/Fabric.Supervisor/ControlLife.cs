using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Supervisor.Routing;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor;

/// <summary>
/// What the lives of one control node have in common. <paramref name="Peers"/>: how another node is asked. <paramref name="Random"/>: of this node alone.
/// <paramref name="Dispatcher"/>: where its actors run; null: the thread pool.
/// </summary>
public sealed record ControlParts(
    HostName Name, IJournal Journal, IMembership Membership, IAgentGateway Agents, HostRegistry Hosts, Func<Member, IShardCommands> Peers, IPeerProbe Probe,
    SupervisorOptions Options, MembershipOptions MembershipOptions, Random Random, TimeProvider Time, ILoggerFactory Logs, IDispatcher? Dispatcher = null);

/// <summary>
/// One life of a control node in its cluster, from joining the view to leaving it or to being declared dead. What was declared dead is never valid again: the process then
/// goes on as another life with another node id.
/// </summary>
public sealed class ControlLife : IAsyncDisposable
{
    private readonly MembershipKeeper _members;

    private ControlLife(MembershipKeeper members, ControlPlane here, IControlPlane everywhere) => (_members, Here, Everywhere) = (members, here, everywhere);

    /// <summary>Answers for the shards that this node holds: for other nodes.</summary>
    public ControlPlane Here { get; }

    /// <summary>Answers for the cluster: for operators.</summary>
    public IControlPlane Everywhere { get; }

    public Guid Node => _members.Node;

    public CancellationToken Expelled => _members.Expelled;

    public ClusterView View => _members.View;

    /// <exception cref="FabricException">store-failed: the cluster's database could not be asked.</exception>
    public static async Task<ControlLife> JoinAsync(ControlParts parts, Uri clusterUrl, Uri apiUrl, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(parts);
        ArgumentNullException.ThrowIfNull(clusterUrl);
        ArgumentNullException.ThrowIfNull(apiUrl);
        var random = parts.Random;
        Guid node = RandomIds.Next(random);
        var members = new MembershipKeeper(
            parts.Membership, new MemberJoins(node, parts.Name.Value, clusterUrl.ToString(), apiUrl.ToString()), parts.Probe, parts.Time, new Random(random.Next()),
            parts.Logs.CreateLogger<MembershipKeeper>(), parts.MembershipOptions);
        var router = new ShardRouter(node, () => members.View, parts.Peers, new ShardMap(parts.Options.Shards), parts.Time, new Random(random.Next()));
        var here = new ControlPlane(
            parts.Journal, parts.Agents, parts.Hosts, Member.HolderOf(node), parts.Time, new Random(random.Next()), parts.Logs, parts.Options, parts.Dispatcher, router);
        try
        {
            await members.JoinAsync(cancellation);
        }
        catch
        {
            await here.DisposeAsync();
            await members.DisposeAsync();
            throw;
        }

        here.Start(members);
        return new ControlLife(members, here, new ClusterPlane(here, router));
    }

    /// <summary>In good order: no shard is placed here any more, all are given back, then the node leaves the view.</summary>
    public async Task LeaveAsync(CancellationToken cancellation)
    {
        await _members.AnnounceLeavingAsync(cancellation);
        await Here.LeaveShardsAsync().WaitAsync(cancellation);
        await _members.LeaveAsync(cancellation);
    }

    public async ValueTask DisposeAsync()
    {
        await _members.DisposeAsync();
        await Here.DisposeAsync();
    }
}
