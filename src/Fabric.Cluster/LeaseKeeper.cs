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
    public TimeSpan Retry { get; init; } = TimeSpan.FromSeconds(1);
}

/// <summary>
/// Holds the leases of a set of shards for one control node: one loop per shard that acquires, hands the shard to its owner, renews, and on loss takes the
/// owner off at once and begins again. Which shards a node should hold is the caller's decision: all of them with one node, a placement over the live view with several.
/// </summary>
public sealed partial class LeaseKeeper(
    IJournal journal, string holder, IShardOwner owner, TimeProvider time, Random random, ILogger<LeaseKeeper> log, LeaseOptions? options = null) : IAsyncDisposable
{
    private readonly LeaseOptions _options = options ?? LeaseOptions.Default;
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<ShardId, ShardTenure> _tenures = new();
    private readonly List<Task> _loops = [];
    private readonly Lock _randomLock = new();

    /// <summary>The tenure of a shard that is held now, or null.</summary>
    public ShardTenure? Find(ShardId shard) => _tenures.TryGetValue(shard, out var tenure) && tenure.Held ? tenure : null;

    /// <summary>Begins to hold the shards; completes when each was taken once, or refused because of what is in it (logged; tried again).</summary>
    public async Task StartAsync(IEnumerable<ShardId> shards, CancellationToken cancellation)
    {
        var first = new List<Task>();
        foreach (var shard in shards)
        {
            var taken = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            first.Add(taken.Task);
            _loops.Add(HoldAsync(shard, taken, _stop.Token));
        }

        foreach (var taken in first)
            await taken.WaitAsync(cancellation); // one by one: each ends on the caller's own context
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_loops);
        _stop.Dispose();
    }

    private async Task HoldAsync(ShardId shard, TaskCompletionSource taken, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                if (await AcquireAsync(shard, stop) is { } tenure)
                    await ServeAsync(tenure, taken, stop);
                else
                    await PauseAsync(_options.Retry, stop);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                break;
            }
            catch (FabricException failure)
            {
                LogStoreTrouble(log, shard.Value, failure.Error.ToString());
                await PauseAsync(_options.Retry, stop);
            }
        }

        taken.TrySetCanceled(stop);
    }

    private async Task<ShardTenure?> AcquireAsync(ShardId shard, CancellationToken stop)
    {
        long askedAt = time.GetTimestamp();
        var (lease, refusal) = await journal.AcquireAsync(shard, holder, _options.Duration, stop);
        if (lease is null)
        {
            LogRefused(log, shard.Value, refusal);
            return null;
        }

        return new ShardTenure(lease, askedAt, time);
    }

    private async Task ServeAsync(ShardTenure tenure, TaskCompletionSource taken, CancellationToken stop)
    {
        using var own = tenure;
        await using var stopping = stop.Register(static self => ((ShardTenure)self!).End(), tenure);
        _tenures[tenure.Shard] = tenure;
        LogTaken(log, tenure.Shard.Value, tenure.Epoch.Value);
        try
        {
            // Replay may take longer than a lease lasts, so renewing begins before it.
            var renewing = RenewAsync(tenure, stop);
            try
            {
                await owner.TakeAsync(tenure, tenure.Ended);
                taken.TrySetResult();
            }
            catch (FabricException failure)
            {
                LogTakeFailed(log, tenure.Shard.Value, failure.Error.ToString());
                tenure.End();
                taken.TrySetResult(); // one shard with a torn event does not keep the others from their work
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
            _tenures.TryRemove(KeyValuePair.Create(tenure.Shard, tenure));
            await owner.LeaveAsync(tenure);
            LogLeft(log, tenure.Shard.Value, tenure.Epoch.Value);
        }

        if (stop.IsCancellationRequested)
            await GiveBackAsync(tenure.Lease);
        else
            await PauseAsync(_options.Retry, stop);
    }

    /// <summary>Ends when the tenure has ended or the node stops.</summary>
    private async Task RenewAsync(ShardTenure tenure, CancellationToken stop)
    {
        using var both = CancellationTokenSource.CreateLinkedTokenSource(tenure.Ended, stop);
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
        double share;
        lock (_randomLock)
            share = 0.5 + (random.NextDouble() / 2);
        await Task.Delay(about * share, time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
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
