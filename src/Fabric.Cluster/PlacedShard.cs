using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Cluster;

/// <summary>Whether one shard is placed on this node. Set by whoever follows the view; awaited by the shard's loop in <see cref="LeaseKeeper"/>.</summary>
internal sealed class PlacedShard(ShardId shard) : IDisposable
{
    private readonly Lock _gate = new();
    private TaskCompletionSource _here = NewSignal(); // under _gate; complete while the shard is placed here
    private TaskCompletionSource _settled = NewSignal(); // under _gate
    private CancellationTokenSource _elsewhere = new(); // under _gate; fires when it no longer is

    public ShardId Shard => shard;

    /// <summary>The next epoch is above this one. The shard's loop alone.</summary>
    public Epoch Floor { get; set; }

    /// <summary>Fires when the shard is placed elsewhere; after <see cref="WaitHereAsync"/>.</summary>
    public CancellationToken Elsewhere
    {
        get
        {
            lock (_gate)
                return _elsewhere.Token;
        }
    }

    public Task Settled
    {
        get
        {
            lock (_gate)
                return _settled.Task;
        }
    }

    public Task WaitHereAsync(CancellationToken stop)
    {
        lock (_gate)
            return _here.Task.WaitAsync(stop);
    }

    public void Settle()
    {
        lock (_gate)
            _settled.TrySetResult();
    }

    public void Set(bool here)
    {
        CancellationTokenSource? left = null;
        lock (_gate)
        {
            if (here == _here.Task.IsCompleted)
                return;
            if (here)
            {
                _elsewhere = new CancellationTokenSource();
                _settled = NewSignal();
                _here.TrySetResult();
            }
            else
            {
                _here = NewSignal();
                _settled.TrySetResult();
                left = _elsewhere;
            }
        }

        left?.Cancel();
    }

    public void Dispose() => _elsewhere.Dispose();

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
