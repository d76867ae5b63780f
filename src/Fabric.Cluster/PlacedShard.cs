using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Cluster;

/// <summary>Whether one shard is placed on this node. Set by whoever follows the view; awaited by the shard's loop in <see cref="LeaseKeeper"/>.</summary>
internal sealed class PlacedShard(ShardId shard) : IDisposable
{
    private readonly Lock _gate = new();
    private TaskCompletionSource _here = NewSignal(); // under _gate; complete while the shard is placed here
    private TaskCompletionSource _settled = NewSignal(); // under _gate
    private bool _isHere; // under _gate
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
        TaskCompletionSource settled;
        lock (_gate)
            settled = _settled;
        settled.TrySetResult();
    }

    public void Set(bool here)
    {
        CancellationTokenSource? left = null;
        TaskCompletionSource done;
        lock (_gate)
        {
            if (here == _isHere)
                return;
            _isHere = here;
            if (here)
            {
                _elsewhere = new CancellationTokenSource();
                _settled = NewSignal();
                done = _here;
            }
            else
            {
                _here = NewSignal();
                done = _settled;
                left = _elsewhere;
            }
        }

        // Outside the lock: who waits goes on in this call.
        done.TrySetResult();
        left?.Cancel();
    }

    public void Dispose() => _elsewhere.Dispose();

    // Continued by whoever signals, on its thread: a simulation has one.
    private static TaskCompletionSource NewSignal() => new();
}
