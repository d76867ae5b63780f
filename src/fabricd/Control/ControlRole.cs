using System.Net;
using Fabric.Api;
using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Daemon.Configuration;
using Fabric.Daemon.State;
using Fabric.Daemon.Steps;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Supervisor;
using Fabric.Supervisor.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Fabric.Daemon.Control;

/// <summary>
/// The control role: the cluster's store, this node's lives, and two ports: the operators' API (HTTP/1.1), which answers for the cluster, and the one for agents and other
/// control nodes (HTTP/2), which answers for this node alone. The ports are open before the node joins, since other nodes must find it there; until then they answer unreachable.
/// </summary>
internal sealed class ControlRole : IAsyncDisposable
{
    private readonly IJournal _journal;
    private readonly HttpAgentGateway _gateway;
    private readonly PeerDirectory _peers;
    private readonly HttpPeerProbe _probe;
    private ControlNode? _node;
    private HttpService? _api;
    private HttpService? _cluster;

    private ControlRole(IJournal journal, HttpAgentGateway gateway) => (_journal, _gateway, _peers, _probe) = (journal, gateway, new PeerDirectory(), new HttpPeerProbe());

    public Uri ApiUrl => _api!.Urls[0];

    public Uri ClusterUrl => _cluster!.Urls[0];

    private ControlNode Node => _node ?? throw new FabricException(ErrorCodes.Unreachable, "This control node is starting.", "Try again in a moment.");

    /// <summary>A node that is not in its cluster has certainly done nothing of what it was asked: whoever asked may ask another node.</summary>
    private IControlPlane Plane(Func<ControlNode, IControlPlane> of)
    {
        try
        {
            return of(Node);
        }
        catch (FabricException outside) when (outside.Error.Code == ErrorCodes.Unreachable)
        {
            throw new FabricException(outside.Error with { Code = ErrorCodes.NotHeld }, outside);
        }
    }

    public static async Task<ControlRole> StartAsync(
        HostName name, ControlSettings settings, StateDirectory state, StepGate? gate, ILoggerFactory logs, TimeProvider time, CancellationToken cancellation)
    {
        var random = new Random();
        var (journal, membership) = await ControlStore.OpenAsync(settings, time, random, cancellation);
        if (gate is not null)
            journal = new SteppedJournal(journal, gate);
        var hosts = new HostRegistry(time);
        var role = new ControlRole(journal, new HttpAgentGateway(hosts, time, new Random(random.Next())));
        try
        {
            await role.ListenAsync(settings, state, logs, time, cancellation);
            var options = SupervisorOptions.Default with { Limits = new BatchLimits(settings.MovesPerSource, settings.MovesPerDestination, settings.MovesPerLink) };
            var parts = new ControlParts(
                name, journal, membership, role._gateway, hosts, role._peers.Of, role._probe, options, MembershipOptions.Default, random, time, logs);
            role._node = new ControlNode(parts, role.ClusterUrl, role.ApiUrl);
            await role._node.StartAsync(cancellation);
            return role;
        }
        catch
        {
            await role.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_node is not null)
            await _node.DisposeAsync();
        if (_api is not null)
            await _api.DisposeAsync();
        if (_cluster is not null)
            await _cluster.DisposeAsync();
        _peers.Dispose();
        _probe.Dispose();
        _gateway.Dispose();
        await _journal.DisposeAsync();
    }

    private async Task ListenAsync(ControlSettings settings, StateDirectory state, ILoggerFactory logs, TimeProvider time, CancellationToken cancellation)
    {
        IPEndPoint api = Sticky(settings.Listen, state, ConfigKeys.ControlListen);
        IPEndPoint cluster = Sticky(settings.ClusterListen, state, ConfigKeys.ControlClusterListen);
        var automatic = Automatic();
        _cluster = await HttpService.StartAsync(
            [new HttpEndpoint(cluster, HttpProtocols.Http2)],
            settings.Trusted,
            routes =>
            {
                routes.MapControlApi(() => Plane(static node => node.Here), () => ClusterUrls(Node.Living.View), automatic);
                routes.MapPeerApi(() => _node?.Node);
                routes.MapHealth([Health]);
            },
            logs,
            time,
            cancellation);
        _api = await HttpService.StartAsync(
            [new HttpEndpoint(api, HttpProtocols.Http1)],
            settings.Trusted,
            routes =>
            {
                routes.MapControlApi(() => Plane(static node => node.Everywhere), () => ClusterUrls(Node.Living.View), automatic);
                routes.MapHealth([Health]);
            },
            logs,
            time,
            cancellation);
        state.RememberPorts(new Dictionary<string, int>(StringComparer.Ordinal) { [ConfigKeys.ControlListen] = ApiUrl.Port, [ConfigKeys.ControlClusterListen] = ClusterUrl.Port });
    }

    private HealthCheck Health => new("cluster", () => _node?.Node is null ? "not in the cluster" : null);

    private static List<Uri> ClusterUrls(ClusterView view) => [.. view.Members.Where(static m => m.State == MemberState.Up).Select(static m => new Uri(m.ClusterUrl))];

    /// <summary>Until there are certificates all hosts are this machine, so what holds here holds for them.</summary>
    private static Accelerator Automatic() =>
        Preflight.Run(new PreflightOptions()).Any(check => check is { Name: "kvm", Ok: true }) ? Accelerator.Kvm : Accelerator.Tcg;

    private static IPEndPoint Sticky(IPEndPoint configured, StateDirectory state, string key) =>
        new(configured.Address, state.StickyPort(key, configured.Port));
}
