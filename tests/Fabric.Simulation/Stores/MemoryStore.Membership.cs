using Fabric.Journal;

namespace Fabric.Simulation.Stores;

/// <summary>The view, by the rules that all stores share.</summary>
internal sealed partial class MemoryStore
{
    private ClusterView _view = new(new Guid(1, 0, 0, new byte[8]), 0, [], []);
    private int _clusters = 1;

    /// <summary>Sees each change of the view: before and after. Not the beats.</summary>
    internal Action<ClusterView, ClusterView> ViewChanged { get; set; } = static (_, _) => { };

    internal ClusterView View
    {
        get
        {
            lock (_gate)
                return _view;
        }
    }

    public Task<ClusterView> ReadViewAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(View);
    }

    public Task<(ClusterView Now, bool Changed)> ChangeAsync(ClusterView seen, IReadOnlyList<ViewChange> changes, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        ViewRules.RequireChanges(changes);
        lock (_gate)
        {
            var before = _view;
            if ((before.Cluster, before.Version) != (seen.Cluster, seen.Version))
                return Task.FromResult((before, false));
            _view = ViewRules.Apply(before, changes, clock.GetUtcNow());
            ViewChanged(before, _view);
            return Task.FromResult((_view, true));
        }
    }

    public Task<(Guid Cluster, long Version)> BeatAsync(Guid node, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
        {
            if (_view.Find(node) is { IsFinal: false } member)
                _view = _view with { Members = _view.Members.Replace(member, member with { BeatAt = clock.GetUtcNow() }) };
            return Task.FromResult((_view.Cluster, _view.Version));
        }
    }

    public Task<(ClusterView Now, bool Changed)> RenewClusterAsync(Guid expected, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
        {
            if (_view.Cluster != expected)
                return Task.FromResult((_view, false));
            var before = _view;
            _view = before with { Cluster = new Guid(++_clusters, 0, 0, new byte[8]), Version = before.Version + 1 };
            foreach (var (shard, held) in _shards.ToList())
                _shards[shard] = (null, held.Epoch, default, DateTimeOffset.MinValue);
            ViewChanged(before, _view);
            return Task.FromResult((_view, true));
        }
    }

    private bool IsFinalMember(string holder) => Guid.TryParse(holder, out var node) && _view.Find(node) is { IsFinal: true };
}
