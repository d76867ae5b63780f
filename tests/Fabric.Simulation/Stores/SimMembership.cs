using Fabric.Journal;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Stores;

/// <summary>The view of the cluster as one life of a control node reaches it.</summary>
internal sealed class SimMembership(World world, IMembership store, StoreWay way) : IMembership
{
    private (Guid Cluster, long Version)? _told;

    public Task<ClusterView> ReadViewAsync(CancellationToken cancellation) => way.CallAsync(store.ReadViewAsync, cancellation);

    public Task<(ClusterView Now, bool Changed)> ChangeAsync(ClusterView seen, IReadOnlyList<ViewChange> changes, CancellationToken cancellation) =>
        way.CallAsync(c => store.ChangeAsync(seen, changes, c), cancellation);

    public async Task<(Guid Cluster, long Version)> BeatAsync(Guid node, CancellationToken cancellation)
    {
        var seen = await way.CallAsync(c => store.BeatAsync(node, c), cancellation);
        return world.Plants.On("stale-views") ? _told ??= seen : seen;
    }

    public Task<(ClusterView Now, bool Changed)> RenewClusterAsync(Guid expected, CancellationToken cancellation) =>
        way.CallAsync(c => store.RenewClusterAsync(expected, c), cancellation);
}
