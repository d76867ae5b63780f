using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Cluster;

/// <summary>
/// One stretch of holding one shard: from an acquisition to its loss. A later acquisition, also by the same node, is another tenure with a higher epoch.
/// Whoever works under it stops when <see cref="Ended"/> fires, and asks <see cref="Held"/> before every effect: a process that was frozen past
/// its lease wakes with timers that have not fired yet. Safety depends on neither: the journal and the agents refuse the old epoch.
/// <para>Renewals come from the lease keeper's loop; all other members may be used by any thread.</para>
/// </summary>
public sealed class ShardTenure : IDisposable
{
    private readonly TimeProvider _time;
    private readonly CancellationTokenSource _ended = new();
    private readonly ITimer _expiry;
    private ShardLease _lease;
    private long _heldUntil; // monotonic ticks
    private long _outdone;

    internal ShardTenure(ShardLease lease, long askedAt, TimeProvider time)
    {
        _time = time;
        _lease = lease;
        _heldUntil = askedAt + _time.GetTimestampTicks(lease.HeldFor);
        Ended = _ended.Token;
        _expiry = time.CreateTimer(static self => ((ShardTenure)self!).Expire(), this, lease.HeldFor, Timeout.InfiniteTimeSpan);
    }

    public ShardId Shard => _lease.Shard;

    /// <summary>Goes into every command to an agent and every append.</summary>
    public Epoch Epoch => _lease.Epoch;

    public ShardLease Lease => Volatile.Read(ref _lease);

    /// <summary>Fires once, when the shard is lost, expired or given back.</summary>
    public CancellationToken Ended { get; }

    /// <summary>Whether the lease still stands by this node's monotonic clock, counted from before the store was asked.</summary>
    public bool Held => !Ended.IsCancellationRequested && _time.GetTimestamp() < Volatile.Read(ref _heldUntil);

    /// <summary>The highest epoch that an agent named when it refused this one; <see cref="Epoch.None"/>: no agent did.</summary>
    public Epoch Outdone => new(Interlocked.Read(ref _outdone));

    /// <summary>The tenure's place in the order of all acquisitions of its shard; no two have the same, even where a restored store gives out an epoch twice.</summary>
    public Guid Term => _lease.Term;

    /// <summary>
    /// An agent has obeyed <paramref name="seen"/>, which is not below this epoch: either another owner has the shard, or the store went back in time and gives out
    /// epochs that were used. The tenure ends; the shard is acquired again, above what was seen, if it can be had.
    /// </summary>
    public void Outdo(Epoch seen)
    {
        long now = Interlocked.Read(ref _outdone);
        while (seen.Value > now && Interlocked.CompareExchange(ref _outdone, seen.Value, now) is var was && was != now)
            now = was;
        End();
    }

    /// <summary>The shard is not ours: work under it ends now.</summary>
    public void End()
    {
        try
        {
            _ended.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // Ended and let go of already.
        }
    }

    public void Dispose()
    {
        End();
        _expiry.Dispose();
        _ended.Dispose();
    }

    internal void Renewed(ShardLease lease, long askedAt)
    {
        // Whoever looked in a moment without the lease has stopped for good. So that moment ends the tenure, although the store would let it go on.
        if (!Held)
        {
            End();
            return;
        }

        Volatile.Write(ref _lease, lease);
        Volatile.Write(ref _heldUntil, askedAt + _time.GetTimestampTicks(lease.HeldFor));
        _expiry.Change(lease.HeldFor, Timeout.InfiniteTimeSpan);
    }

    private void Expire()
    {
        if (_time.GetTimestamp() >= Volatile.Read(ref _heldUntil))
            End();
    }
}
