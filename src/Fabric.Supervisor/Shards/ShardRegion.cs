using System.Collections.Concurrent;
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Hosts;
using Fabric.Supervisor.Reading;
using Fabric.Supervisor.Vms;

namespace Fabric.Supervisor.Shards;

/// <summary>
/// Where an entity is found: name → shard → the shard's actor, if this node holds the shard. What it does not hold it refuses (not-held); <see cref="Routing.ShardRouter"/> knows
/// who does. A batch is in the shard of the host that it empties. Any thread.
/// </summary>
internal sealed class ShardRegion(ActorSystem actors, ControlServices services, ShardMap map, ShardReader reader, IMigrationStarter? starter) : IShardOwner, IMigrationStarter
{
    /// <summary>What was read of a shard that is held elsewhere counts as known for so long.</summary>
    public static readonly TimeSpan OldestReading = TimeSpan.FromSeconds(5);

    /// <summary>How long a shard's actors get to stop after its tenure ended.</summary>
    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(15);

    private readonly ConcurrentDictionary<ShardId, (ShardTenure Tenure, IActorRef<ShardMessage> Actor)> _shards = new();
    private readonly ConcurrentDictionary<ShardId, ShardTenure> _read = new();

    public async Task TakeAsync(ShardTenure tenure, CancellationToken cancellation)
    {
        reader.Claim(tenure.Shard);
        var actor = actors.Spawn<ShardMessage>($"shard-{tenure.Shard.Value}-e{tenure.Epoch}", () => new ShardActor(services, tenure, starter ?? this));
        _shards[tenure.Shard] = (tenure, actor);
        await actor.AskAsync<ShardMessage, int>(static reply => new ShardLoaded(reply), services.Options.Ask, services.Time, cancellation);
        _read[tenure.Shard] = tenure;
    }

    /// <summary>
    /// Why nothing can be said yet about what is not on the board, or null when everything was read: of the shard that keeps <paramref name="key"/>, or of all.
    /// </summary>
    public FabricError? Unread(string? key) => (key is null ? map.All : [map.Of(key)])
        .Select(shard => IsReadHere(shard) ? null : reader.Unread(shard, OldestReading))
        .FirstOrDefault(static unread => unread is not null);

    /// <summary>What the board shows of the shard of <paramref name="key"/> is what its actors here say.</summary>
    /// <exception cref="FabricException">not-held.</exception>
    public void RequireRead(string key)
    {
        var shard = map.Of(key);
        if (!IsReadHere(shard))
            throw NotHeld(shard, key);
    }

    /// <summary>All that can be known of every shard is on the board, from its actors here or from reading.</summary>
    public bool AllRead => map.All.All(shard => IsReadHere(shard) || reader.HasRead(shard));

    /// <summary>Tells a VM's ledger, if it is kept here, that a host shows something of the VM that is over. May be lost: it is said again.</summary>
    public void HostShows(VmName vm, HostName host)
    {
        if (_shards.TryGetValue(map.Of("vm/" + vm), out var held) && held.Tenure.Held)
            held.Actor.TryTell(new VmShown(vm, host));
    }

    public async Task LeaveAsync(ShardTenure tenure)
    {
        _read.TryRemove(KeyValuePair.Create(tenure.Shard, tenure));
        if (_shards.TryGetValue(tenure.Shard, out var held) && held.Tenure == tenure && _shards.TryRemove(KeyValuePair.Create(tenure.Shard, held)))
            await actors.StopAsync(held.Actor, StopDeadline);
        reader.GiveBack(tenure.Shard);
    }

    public async Task<KnownState> StartAsync(
        VmName vm, HostName destination, MigrationOptions options, Guid requestId, BatchMembership batch, CancellationToken cancellation) =>
        await AskVmAsync<KnownState>(vm, reply => new MigrateAsked(destination, options, requestId, batch, reply), cancellation);

    public async Task SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation)
    {
        using var ledger = await AskShardAsync<EntityUse<HostMessage>>("host/" + host, reply => new HostWanted(host, reply), cancellation);
        await ledger.Entity.AskAsync<HostMessage, bool>(reply => new CordonAsked(cordoned, reply, reason), services.Options.Ask, services.Time, cancellation);
    }

    public async Task<TReply> AskVmAsync<TReply>(VmName vm, Func<IReply<TReply>, VmMessage> message, CancellationToken cancellation)
    {
        using var ledger = await AskShardAsync<EntityUse<VmMessage>>("vm/" + vm, reply => new VmWanted(vm, reply), cancellation);
        return await ledger.Entity.AskAsync(message, services.Options.Ask, services.Time, cancellation);
    }

    public async Task<BatchState> StartBatchAsync(BatchPlan plan, CancellationToken cancellation)
    {
        using var batch = await AskShardAsync<EntityUse<BatchMessage>>("host/" + plan.Host, reply => new BatchWanted(plan, reply), cancellation);
        return await batch.Entity.AskAsync<BatchMessage, BatchState>(static reply => new BatchLoaded(reply), services.Options.Ask, services.Time, cancellation);
    }

    private Task<TReply> AskShardAsync<TReply>(string key, Func<IReply<TReply>, ShardMessage> message, CancellationToken cancellation)
    {
        var shard = map.Of(key);
        return _shards.TryGetValue(shard, out var held) && held.Tenure.Held
            ? held.Actor.AskAsync(message, services.Options.Ask, services.Time, cancellation)
            : throw NotHeld(shard, key);
    }

    private bool IsReadHere(ShardId shard) => _read.TryGetValue(shard, out var tenure) && tenure.Held;

    private static FabricException NotHeld(ShardId shard, string key) =>
        new(ErrorCodes.NotHeld, $"Shard {shard.Value}, which keeps '{key}', is not held by this control node now.", "Try again in a few seconds.");
}
