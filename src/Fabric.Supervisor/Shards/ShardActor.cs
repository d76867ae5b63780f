// All entities of one shard, under one tenure: read back when the shard is taken, made when they are first asked for, and gone when the tenure ends.
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Hosts;
using Fabric.Supervisor.Migrations;
using Fabric.Supervisor.Vms;

namespace Fabric.Supervisor.Shards;

internal abstract record ShardMessage;

/// <summary>Answered when every stream of the shard is read and every unfinished work goes on.</summary>
internal sealed record ShardLoaded(IReply<int> Reply) : ShardMessage;

internal sealed record VmWanted(VmName Vm, IReply<IActorRef<VmMessage>> Reply) : ShardMessage;

internal sealed record HostWanted(HostName Host, IReply<IActorRef<HostMessage>> Reply) : ShardMessage;

/// <summary>A host shows something of this VM that is over.</summary>
internal sealed record VmShown(VmName Vm, HostName Host) : ShardMessage;

/// <summary><paramref name="Plan"/>: what to begin; the answer comes once it is durable.</summary>
internal sealed record BatchWanted(BatchPlan Plan, IReply<IActorRef<BatchMessage>> Reply) : ShardMessage;

internal sealed class ShardActor(ControlServices services, ShardTenure tenure, IMigrationStarter starter) : Actor<ShardMessage>
{
    /// <summary>Entities come back for as long as the shard is ours.</summary>
    private static readonly ActorOptions EntityOptions = new() { MaxRestarts = int.MaxValue };

    private const int ListBatch = 256;

    private readonly Dictionary<VmName, IActorRef<VmMessage>> _vms = [];
    private readonly Dictionary<HostName, IActorRef<HostMessage>> _hosts = [];
    private readonly Dictionary<string, IActorRef<BatchMessage>> _batches = new(StringComparer.Ordinal);

    protected override async ValueTask ReceiveAsync(ShardMessage message)
    {
        switch (message)
        {
            case ShardLoaded loaded:
                loaded.Reply.Succeed(await LoadAsync());
                break;
            case VmWanted wanted:
                wanted.Reply.Succeed(Vm(wanted.Vm));
                break;
            case VmShown shown:
                if (_vms.TryGetValue(shown.Vm, out var known))
                    known.TryTell(new HostShows(shown.Host));
                break;
            case HostWanted wanted:
                wanted.Reply.Succeed(Host(wanted.Host));
                break;
            case BatchWanted wanted:
                wanted.Reply.Succeed(Batch(wanted.Plan.Id, wanted.Plan));
                break;
            default:
                throw new InvalidOperationException($"No handler is written for {message.GetType().Name}.");
        }
    }

    /// <summary>Migrations first (what is over is only shown), then cordons, then the VMs, whose ledgers carry unfinished migrations on, then batches.</summary>
    private async Task<int> LoadAsync()
    {
        int count = 0;
        await foreach (var stream in StreamsAsync(MigrationSupervisor.StreamPrefix))
        {
            await ShowMigrationAsync(stream);
            count++;
        }

        await foreach (var stream in StreamsAsync(HostLedger.StreamPrefix))
        {
            var host = Host(HostName.Parse(stream.Value[HostLedger.StreamPrefix.Length..]));
            await host.AskAsync<HostMessage, bool>(static reply => new CordonAsked(null, reply), services.Options.Ask, services.Time, Context.Stopping);
            count++;
        }

        await foreach (var stream in StreamsAsync(VmLedger.StreamPrefix))
        {
            var vm = Vm(VmName.Parse(stream.Value[VmLedger.StreamPrefix.Length..]));
            await vm.AskAsync<VmMessage, VmState>(static reply => new VmLoaded(reply), services.Options.Ask, services.Time, Context.Stopping);
            count++;
        }

        await foreach (var stream in StreamsAsync(BatchSupervisor.StreamPrefix))
        {
            var batch = Batch(stream.Value[BatchSupervisor.StreamPrefix.Length..], null);
            await batch.AskAsync<BatchMessage, BatchState>(static reply => new BatchLoaded(reply), services.Options.Ask, services.Time, Context.Stopping);
            count++;
        }

        return count;
    }

    private async Task ShowMigrationAsync(StreamId stream)
    {
        var events = await new EventStream<MigrationEvent>(services.Journal, tenure, stream, EventCodec.Catalog).LoadAsync(Context.Stopping);
        var (state, error) = Transitions.Replay(Unborn.Instance, events);
        if (error is not null)
            throw new FabricException(error with { Message = $"Stream '{stream}': {error.Message}" });
        if (state is KnownState known)
            services.Board.Publish(known);
    }

    private async IAsyncEnumerable<StreamId> StreamsAsync(string prefix)
    {
        StreamId? after = null;
        while (true)
        {
            var streams = await services.Journal.ListStreamsAsync(tenure.Shard, prefix, after, ListBatch, Context.Stopping);
            foreach (var stream in streams)
                yield return stream;
            if (streams.Count < ListBatch)
                yield break;
            after = streams[^1];
        }
    }

    private IActorRef<VmMessage> Vm(VmName vm)
    {
        if (!_vms.TryGetValue(vm, out var known))
            _vms[vm] = known = Context.Spawn($"vm-{vm}", () => new VmLedger(services, tenure, vm), EntityOptions);
        return known;
    }

    private IActorRef<HostMessage> Host(HostName host)
    {
        if (!_hosts.TryGetValue(host, out var known))
            _hosts[host] = known = Context.Spawn($"host-{host}", () => new HostLedger(services, tenure, host), EntityOptions);
        return known;
    }

    private IActorRef<BatchMessage> Batch(string id, BatchPlan? plan)
    {
        if (!_batches.TryGetValue(id, out var known))
            _batches[id] = known = Context.Spawn($"batch-{id}", () => new BatchSupervisor(services, tenure, starter, id, plan), EntityOptions);
        return known;
    }
}
