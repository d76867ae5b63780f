using System.Net;
using Fabric.Api;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Daemon.Configuration;
using Fabric.Daemon.State;
using Fabric.Daemon.Steps;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Supervisor;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Fabric.Daemon;

/// <summary>
/// The control role: journal, supervisors, the operators' API (HTTP/1.1) and the same API for agents (HTTP/2). The API is opened last and closed
/// first, so that nobody is answered by half a node.
/// </summary>
internal sealed class ControlRole : IAsyncDisposable
{
    private readonly IJournal _journal;
    private readonly HttpAgentGateway _gateway;
    private readonly ControlPlane _plane;
    private readonly HttpService _http;

    private ControlRole(IJournal journal, HttpAgentGateway gateway, ControlPlane plane, HttpService http) =>
        (_journal, _gateway, _plane, _http) = (journal, gateway, plane, http);

    public Uri ApiUrl => _http.Urls[0];

    public Uri ClusterUrl => _http.Urls[1];

    public static async Task<ControlRole> StartAsync(
        HostName name, ControlSettings settings, StateDirectory state, StepGate? gate, ILoggerFactory logs, TimeProvider time, CancellationToken cancellation)
    {
        var random = new Random();
        IJournal journal = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = settings.Journal }, time, new Random(random.Next()), cancellation);
        if (gate is not null)
            journal = new SteppedJournal(journal, gate);
        var hosts = new HostRegistry(time);
        var gateway = new HttpAgentGateway(hosts, time, new Random(random.Next()));
        var options = SupervisorOptions.Default with { Limits = new BatchLimits(settings.MovesPerSource, settings.MovesPerDestination, settings.MovesPerLink) };
        // The stable name: a control node that restarts takes its own shards back at once, at a higher epoch. Its state directory is locked, so there is one.
        var plane = new ControlPlane(journal, gateway, hosts, name.Value, time, random, logs, options);
        HttpService? http = null;
        try
        {
            await plane.StartAsync(cancellation);
            IPEndPoint api = Sticky(settings.Listen, state, ConfigKeys.ControlListen);
            IPEndPoint cluster = Sticky(settings.ClusterListen, state, ConfigKeys.ControlClusterListen);
            http = await HttpService.StartAsync(
                [new HttpEndpoint(api, HttpProtocols.Http1), new HttpEndpoint(cluster, HttpProtocols.Http2)],
                routes =>
                {
                    routes.MapControlApi(plane, Automatic());
                    routes.MapHealth([]);
                },
                logs,
                time,
                cancellation);
            state.RememberPorts(new Dictionary<string, int>(StringComparer.Ordinal)
            {
                [ConfigKeys.ControlListen] = http.Urls[0].Port,
                [ConfigKeys.ControlClusterListen] = http.Urls[1].Port,
            });
            return new ControlRole(journal, gateway, plane, http);
        }
        catch
        {
            if (http is not null)
                await http.DisposeAsync();
            await plane.DisposeAsync();
            gateway.Dispose();
            await journal.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _http.DisposeAsync();
        await _plane.DisposeAsync();
        _gateway.Dispose();
        await _journal.DisposeAsync();
    }

    /// <summary>Until there are certificates all hosts are this machine, so what holds here holds for them.</summary>
    private static Accelerator Automatic() =>
        Preflight.Run(new PreflightOptions()).Any(check => check is { Name: "kvm", Ok: true }) ? Accelerator.Kvm : Accelerator.Tcg;

    private static IPEndPoint Sticky(IPEndPoint configured, StateDirectory state, string key) =>
        new(configured.Address, state.StickyPort(key, configured.Port));
}
