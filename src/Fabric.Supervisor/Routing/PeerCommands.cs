using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Routing;

/// <summary>Another control node's <see cref="IShardCommands"/>, asked at its port for nodes, where requests are answered and never passed on again.</summary>
public sealed class PeerCommands(ControlClient client) : IShardCommands, IDisposable
{
    public Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) =>
        client.SetCordonedAsync(host, cordoned, reason, cancellation);

    public Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation) => client.CreateVmAsync(request, cancellation);

    public Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation) => client.DeleteVmAsync(vm, force, cancellation);

    public Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation) => client.MigrateAsync(request, cancellation);

    public Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation) => client.AbortAsync(idOrPrefix, reason, cancellation);

    public Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation) => client.RepairAsync(vm, reason, cancellation);

    public Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation) => client.EvacuateAsync(request, cancellation);

    public void Dispose() => client.Dispose();
}

/// <summary>One connection to each other node that was ever asked. Any thread.</summary>
public sealed class PeerDirectory : IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<PeerCommands>> _peers = new(StringComparer.Ordinal);

    public IShardCommands Of(Member member)
    {
        ArgumentNullException.ThrowIfNull(member);
        return _peers.GetOrAdd(member.ClusterUrl, static url => new Lazy<PeerCommands>(() => new PeerCommands(new ControlClient(new Uri(url), http2: true) { UntouchedCode = ErrorCodes.NotHeld }))).Value;
    }

    public void Dispose()
    {
        foreach (var peer in _peers.Values.Where(static p => p.IsValueCreated))
            peer.Value.Dispose();
    }
}
