using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Journal;
using Microsoft.Extensions.Logging;

namespace Fabric.Cluster;

/// <summary>Who works under a shard's lease.</summary>
public interface IShardOwner
{
    /// <summary>The shard is ours: read its streams and go on with what is unfinished, until <see cref="ShardTenure.Ended"/> fires. Returns when the work has begun.</summary>
    Task TakeAsync(ShardTenure tenure, CancellationToken cancellation);

    /// <summary>The tenure has ended: returns when nothing of it runs any more.</summary>
    Task LeaveAsync(ShardTenure tenure);
}

public sealed record LeaseOptions
{
    public static LeaseOptions Default { get; } = new();

    /// <summary>Of one lease. Renewed after a third of it.</summary>
    public TimeSpan Duration { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Before a shard is asked for again; jitter of half.</summary>
    public TimeSpan Retry { get; init; } = TimeSpan.FromMilliseconds(400);
}

/// <summary>
/// Holds the leases of the shards that are placed on one control node: one loop per shard that, while the shard is placed here, acquires it, hands it to its owner, renews,
/// and on loss takes the owner off at once and begins again. A shard that is placed elsewhere is handed off in two steps: its owner leaves it, then its lease is given
/// back, for which the node where it is placed now is asking already.
/// </summary>
public sealed partial class LeaseKeeper(
    IJournal journal, string holder, IShardOwner owner, TimeProvider time, Random random, ILogger<LeaseKeeper> log, LeaseOptions? options = null) : IAsyncDisposable
{
    private readonly LeaseOptions _options = options ?? LeaseOptions.Default;
    private readonly Jitter _jitter = new(random);
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<ShardId, ShardTenure> _tenures = new();
    private readonly Dictionary<ShardId, PlacedShard> _shards = []; // under _gate; entries stay
    private readonly List<Task> _loops = []; // under _gate
    private readonly Lock _gate = new();
    private bool _disposed; // under _gate

    /// <summary>The tenure of a shard that is held now, or null.</summary>
    public ShardTenure? Find(ShardId shard) => _tenures.TryGetValue(shard, out var tenure) && tenure.Held ? tenure : null;

    /// <summary>From now on exactly these shards are placed here. One caller at a time.</summary>
    public void Place(IReadOnlySet<ShardId> shards)
    {
        ArgumentNullException.ThrowIfNull(shards);
        List<(PlacedShard Placed, bool Here)> changed;
        lock (_gate)
        {
            if (_disposed)
                return;
            foreach (var shard in shards.Where(shard => !_shards.ContainsKey(shard)))
            {
                var placed = _shards[shard] = new PlacedShard(shard);
                _loops.Add(HoldAsync(placed, _stop.Token));
            }

            changed = [.. _shards.Select(entry => (entry.Value, shards.Contains(entry.Key)))];
        }

        foreach (var (placed, here) in changed)
            placed.Set(here);
    }

    /// <summary>Completes when each shard that is placed here now was taken once, or refused because of what is in it (logged; tried again), or placed elsewhere.</summary>
    public async Task SettledAsync(CancellationToken cancellation)
    {
        List<Task> settled;
        lock (_gate)
            settled = [.. _shards.Values.Select(static placed => placed.Settled)];
        foreach (var one in settled)
            await one.WaitAsync(cancellation); // one by one: each ends on the caller's own context
    }

    /// <summary>Leaves all shards and gives them back. May be called again.</summary>
    public async ValueTask DisposeAsync()
    {
        List<Task> loops;
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
            loops = [.. _loops];
        }

        Stop();
        await Task.WhenAll(loops);
        foreach (var placed in _shards.Values)
            placed.Dispose();
        _stop.Dispose();
    }

    // Not by CancelAsync, whose callbacks run on the pool: a simulation has one thread.
    private void Stop() => _stop.Cancel();

    private async Task HoldAsync(PlacedShard placed, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await placed.WaitHereAsync(stop);
                using var here = CancellationTokenSource.CreateLinkedTokenSource(stop, placed.Elsewhere);
                if (await AcquireAsync(placed, stop) is { } tenure)
                    await ServeAsync(tenure, placed, here.Token);
                else
                    await PauseAsync(_options.Retry, here.Token);
            }
            catch (OperationCanceledException)
            {
                // Stopping, or placed elsewhere: the loop looks which.
            }
            catch (FabricException failure)
            {
                LogStoreTrouble(log, placed.Shard.Value, failure.Error.ToString());
                await PauseAsync(_options.Retry, stop);
            }
        }

        placed.Settle();
    }

    // Not called off when the shard is placed elsewhere meanwhile: a lease that was granted and not heard of would stand until it expires.
    private async Task<ShardTenure?> AcquireAsync(PlacedShard placed, CancellationToken stop)
    {
        long askedAt = time.GetTimestamp();
        var (lease, refusal) = await journal.AcquireAsync(placed.Shard, holder, _options.Duration, placed.Floor, stop);
        if (lease is null)
        {
            LogRefused(log, placed.Shard.Value, refusal);
            return null;
        }

        return new ShardTenure(lease, askedAt, time);
    }

    /// <param name="tenure">Just acquired.</param>
    /// <param name="placed">Its shard.</param>
    /// <param name="here">Cancelled: the shard is to be left and given back.</param>
    private async Task ServeAsync(ShardTenure tenure, PlacedShard placed, CancellationToken here)
    {
        using var own = tenure;
        await using var leaving = here.Register(static self => ((ShardTenure)self!).End(), tenure);
        _tenures[tenure.Shard] = tenure;
        LogTaken(log, tenure.Shard.Value, tenure.Epoch.Value);
        try
        {
            // Replay may take longer than a lease lasts, so renewing begins before it.
            var renewing = RenewAsync(tenure, here);
            try
            {
                await owner.TakeAsync(tenure, tenure.Ended);
                placed.Settle();
            }
            catch (FabricException failure)
            {
                LogTakeFailed(log, tenure.Shard.Value, failure.Error.ToString());
                tenure.End();
                placed.Settle(); // one shard with a torn event does not keep the others from their work
            }
            catch (OperationCanceledException) when (tenure.Ended.IsCancellationRequested)
            {
                // Lost while it was being read: the next tenure reads again.
            }

            await renewing;
        }
        finally
        {
            tenure.End();
            placed.Floor = tenure.Outdone > placed.Floor ? tenure.Outdone : placed.Floor;
            _tenures.TryRemove(KeyValuePair.Create(tenure.Shard, tenure));
            await owner.LeaveAsync(tenure);
            LogLeft(log, tenure.Shard.Value, tenure.Epoch.Value);
        }

        if (here.IsCancellationRequested)
            await GiveBackAsync(tenure.Lease);
        else
            await PauseAsync(_options.Retry, here);
    }

    /// <summary>Ends when the tenure has ended or the shard is to be left.</summary>
    private async Task RenewAsync(ShardTenure tenure, CancellationToken here)
    {
        using var both = CancellationTokenSource.CreateLinkedTokenSource(tenure.Ended, here);
        while (!both.IsCancellationRequested)
        {
            try
            {
                await Task.Delay(_options.Duration / 3, time, both.Token);
                long askedAt = time.GetTimestamp();
                var (lease, refusal) = await journal.RenewAsync(tenure.Lease, _options.Duration, both.Token);
                if (lease is null)
                {
                    LogLost(log, tenure.Shard.Value, tenure.Epoch.Value, refusal);
                    tenure.End();
                    return;
                }

                tenure.Renewed(lease, askedAt);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (FabricException failure)
            {
                // Unknown: the lease stands until its own end, and the next renewal may succeed.
                LogStoreTrouble(log, tenure.Shard.Value, failure.Error.ToString());
            }
        }
    }

    private async Task GiveBackAsync(ShardLease lease)
    {
        using var deadline = new CancellationTokenSource(_options.Duration / 3, time);
        try
        {
            await journal.ReleaseAsync(lease, deadline.Token);
        }
        catch (Exception failure) when (failure is FabricException or OperationCanceledException)
        {
            LogStoreTrouble(log, lease.Shard.Value, failure.Message); // it expires by itself
        }
    }

    private async Task PauseAsync(TimeSpan about, CancellationToken stop)
    {
        await Task.Delay(_jitter.Of(about), time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Shard {Shard} is held at epoch {Epoch}.")]
    private static partial void LogTaken(ILogger logger, int shard, long epoch);

    [LoggerMessage(Level = LogLevel.Information, Message = "Shard {Shard} was left at epoch {Epoch}.")]
    private static partial void LogLeft(ILogger logger, int shard, long epoch);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Shard {Shard} was lost at epoch {Epoch}: {Refusal}. Its supervisors stop.")]
    private static partial void LogLost(ILogger logger, int shard, long epoch, JournalRefusal refusal);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Shard {Shard} is not to be had: {Refusal}.")]
    private static partial void LogRefused(ILogger logger, int shard, JournalRefusal refusal);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The journal cannot be asked about shard {Shard}: {Error}")]
    private static partial void LogStoreTrouble(ILogger logger, int shard, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "Shard {Shard} is refused, its data is kept as it is: {Error}")]
    private static partial void LogTakeFailed(ILogger logger, int shard, string error);
}
