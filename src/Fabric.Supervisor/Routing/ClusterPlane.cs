using Fabric.Core;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Routing;

/// <summary>
/// What operators ask of any control node of a cluster: what changes something goes to the node that holds its shard, what only asks is answered here, from this node's reading.
/// Nodes among themselves ask <see cref="ControlPlane"/> directly, so nothing is passed on twice.
/// </summary>
public sealed class ClusterPlane(ControlPlane here, ShardRouter router) : IControlPlane
{
    public Task RegisterHostAsync(HostRegistration registration, CancellationToken cancellation) => here.RegisterHostAsync(registration, cancellation);

    public Task<IReadOnlyList<HostReport>> ListHostsAsync(CancellationToken cancellation) => here.ListHostsAsync(cancellation);

    public Task<HostReport> GetHostAsync(HostName host, CancellationToken cancellation) => here.GetHostAsync(host, cancellation);

    public Task<IReadOnlyList<VmReport>> ListVmsAsync(CancellationToken cancellation) => here.ListVmsAsync(cancellation);

    public Task<IReadOnlyList<MigrationReport>> ListMigrationsAsync(CancellationToken cancellation) => here.ListMigrationsAsync(cancellation);

    public Task<MigrationReport> GetMigrationAsync(string idOrPrefix, CancellationToken cancellation) =>
        FoundAsync(() => here.GetMigrationAsync(idOrPrefix, cancellation), cancellation);

    public Task<EvacuationReport> GetEvacuationAsync(string id, CancellationToken cancellation) => FoundAsync(() => here.GetEvacuationAsync(id, cancellation), cancellation);

    public Task<IReadOnlyList<EvacuationReport>> ListEvacuationsAsync(CancellationToken cancellation) => here.ListEvacuationsAsync(cancellation);

    public Task<IReadOnlyList<EventReport>> MigrationLogAsync(string idOrPrefix, CancellationToken cancellation) =>
        FoundAsync(() => here.MigrationLogAsync(idOrPrefix, cancellation), cancellation);

    public Task<EventPage> EventsAsync(string cursor, int most, CancellationToken cancellation) => here.EventsAsync(cursor, most, cancellation);

    public Task<IReadOnlyList<ShardReport>> ListShardsAsync(CancellationToken cancellation) => here.ListShardsAsync(cancellation);

    public Task<IReadOnlyList<NodeReport>> ListNodesAsync(CancellationToken cancellation) => here.ListNodesAsync(cancellation);

    public Task<long> WaitChangeAsync(long after, TimeSpan wait, CancellationToken cancellation) => here.WaitChangeAsync(after, wait, cancellation);

    public Task<ConsoleChunk> ReadConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation) =>
        FoundAsync(() => here.ReadConsoleAsync(vm, offset, most, cancellation), cancellation);

    public Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) => router.RunAsync(
        "host/" + host, repeatable: true, () => here.SetCordonedAsync(host, cordoned, reason, cancellation), peer => peer.SetCordonedAsync(host, cordoned, reason, cancellation), cancellation);

    public Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        return ShownAsync(
            router.RunAsync("vm/" + request.Spec.Name, repeatable: false, () => here.CreateVmAsync(request, cancellation), peer => peer.CreateVmAsync(request, cancellation), cancellation),
            cancellation);
    }

    public Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation) => ShownAsync(
        router.RunAsync("vm/" + vm, repeatable: false, () => DeletedAsync(here, vm, force, cancellation), peer => DeletedAsync(peer, vm, force, cancellation), cancellation), cancellation);

    /// <summary>A request without an id gets one here, so that it may be repeated when a node dies over it.</summary>
    public Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        var named = request with { RequestId = request.RequestId ?? here.NewRequest() };
        return ShownAsync(
            router.RunAsync("vm/" + named.Vm, repeatable: true, () => here.MigrateAsync(named, cancellation), peer => peer.MigrateAsync(named, cancellation), cancellation), cancellation);
    }

    public async Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation)
    {
        var found = await GetMigrationAsync(idOrPrefix, cancellation);
        string id = found.Id.ToString();
        return await router.RunAsync(
            "vm/" + found.Vm, repeatable: false, () => here.AbortMigrationAsync(id, reason, cancellation), peer => peer.AbortMigrationAsync(id, reason, cancellation), cancellation);
    }

    public Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation) => ShownAsync(
        router.RunAsync("vm/" + vm, repeatable: true, () => here.RepairAsync(vm, reason, cancellation), peer => peer.RepairAsync(vm, reason, cancellation), cancellation), cancellation);

    public Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        var named = request with { RequestId = request.RequestId ?? here.NewRequest() };
        return ShownAsync(
            router.RunAsync("host/" + named.Host, repeatable: true, () => here.EvacuateAsync(named, cancellation), peer => peer.EvacuateAsync(named, cancellation), cancellation), cancellation);
    }

    private static async Task<bool> DeletedAsync(IShardCommands at, VmName vm, bool force, CancellationToken cancellation)
    {
        await at.DeleteVmAsync(vm, force, cancellation);
        return true;
    }

    /// <summary>Whoever was told that it is done sees it in the next list, also of this node.</summary>
    private async Task<T> ShownAsync<T>(Task<T> change, CancellationToken cancellation)
    {
        var done = await change;
        try
        {
            await here.RefreshAsync(cancellation);
        }
        catch (FabricException)
        {
            // It is done; what this node shows follows when the journal can be read.
        }

        return done;
    }

    /// <summary>"Not found" is said only after one more reading: another node may just have made it.</summary>
    private async Task<T> FoundAsync<T>(Func<Task<T>> find, CancellationToken cancellation)
    {
        try
        {
            return await find();
        }
        catch (FabricException missing) when (missing.Error.Code is ErrorCodes.NotFound or ErrorCodes.Unreachable or ErrorCodes.NotHeld)
        {
            await here.RefreshAsync(cancellation);
            return await find();
        }
    }
}
