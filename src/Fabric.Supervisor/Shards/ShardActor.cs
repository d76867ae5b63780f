// All entities of one shard, under one tenure: read back when the shard is taken, made when they are asked for, laid to rest when nobody has
// wanted them for a while and they have nothing to do, and gone when the tenure ends.
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

internal sealed record VmWanted(VmName Vm, IReply<EntityUse<VmMessage>> Reply) : ShardMessage;

internal sealed record HostWanted(HostName Host, IReply<EntityUse<HostMessage>> Reply) : ShardMessage;

/// <summary>A host shows something of this VM that is over.</summary>
internal sealed record VmShown(VmName Vm, HostName Host) : ShardMessage;

/// <summary><paramref name="Plan"/>: what to begin; the answer comes once it is durable.</summary>
internal sealed record BatchWanted(BatchPlan Plan, IReply<EntityUse<BatchMessage>> Reply) : ShardMessage;

/// <summary>Time to ask who has nothing to do.</summary>
internal sealed record RestRound : ShardMessage
{
    public static RestRound Instance { get; } = new();
}

/// <summary>What an entity answered, for the family that asked it.</summary>
internal sealed record RestAnswered(Action Take) : ShardMessage;

internal sealed class ShardActor(ControlServices services, ShardTenure tenure, IMigrationStarter starter) : Actor<ShardMessage>
{
    /// <summary>Entities come back for as long as the shard is ours.</summary>
    private static readonly ActorOptions EntityOptions = new() { MaxRestarts = int.MaxValue };

    private const int ListBatch = 256;

    /// <summary>Entities of a kind that are asked to rest in one round.</summary>
    private const int RestAtOnce = 64;

    /// <summary>Rounds within the time after which an entity may rest.</summary>
    private const int RestRounds = 16;

    private readonly EntityFamily<VmName, VmMessage> _vms = new(services.Time, 2 * services.Options.Ask);
    private readonly EntityFamily<HostName, HostMessage> _hosts = new(services.Time, 2 * services.Options.Ask);
    private readonly EntityFamily<string, BatchMessage> _batches = new(services.Time, 2 * services.Options.Ask);

    protected override ValueTask StartedAsync()
    {
        Context.TellEvery(services.Options.RestAfter / RestRounds, RestRound.Instance);
        return ValueTask.CompletedTask;
    }

    protected override async ValueTask ReceiveAsync(ShardMessage message)
    {
        switch (message)
        {
            case ShardLoaded loaded:
                loaded.Reply.Succeed(await LoadAsync());
                break;
            case VmWanted wanted:
                _vms.Want(wanted.Vm, () => MakeVm(wanted.Vm), wanted.Reply);
                break;
            case VmShown shown:
                if (services.Board.Vm(shown.Vm) is not null)
                    _vms.Mention(shown.Vm, () => MakeVm(shown.Vm), new HostShows(shown.Host));
                break;
            case HostWanted wanted:
                _hosts.Want(wanted.Host, () => MakeHost(wanted.Host), wanted.Reply);
                break;
            case BatchWanted wanted:
                _batches.Want(wanted.Plan.Id, () => MakeBatch(wanted.Plan.Id, wanted.Plan), wanted.Reply);
                break;
            case RestRound:
                AskToRest(_vms, static (offer, reply) => new VmRest(offer, reply));
                AskToRest(_hosts, static (offer, reply) => new HostRest(offer, reply));
                AskToRest(_batches, static (offer, reply) => new BatchRest(offer, reply));
                break;
            case RestAnswered answered:
                answered.Take();
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
            var host = HostName.Parse(stream.Value[HostLedger.StreamPrefix.Length..]);
            await _hosts.Of(host, () => MakeHost(host)).AskAsync<HostMessage, bool>(static reply => new CordonAsked(null, reply), services.Options.Ask, services.Time, Context.Stopping);
            count++;
        }

        await foreach (var stream in StreamsAsync(VmLedger.StreamPrefix))
        {
            var vm = VmName.Parse(stream.Value[VmLedger.StreamPrefix.Length..]);
            await _vms.Of(vm, () => MakeVm(vm)).AskAsync<VmMessage, VmState>(static reply => new VmLoaded(reply), services.Options.Ask, services.Time, Context.Stopping);
            count++;
        }

        await foreach (var stream in StreamsAsync(BatchSupervisor.StreamPrefix))
        {
            string batch = stream.Value[BatchSupervisor.StreamPrefix.Length..];
            await _batches.Of(batch, () => MakeBatch(batch, null)).AskAsync<BatchMessage, BatchState>(static reply => new BatchLoaded(reply), services.Options.Ask, services.Time, Context.Stopping);
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

    private void AskToRest<TKey, TMessage>(EntityFamily<TKey, TMessage> family, Func<RestOffer, IReply<bool>, TMessage> message)
        where TKey : notnull
        where TMessage : class
    {
        foreach (var (key, entity) in family.Unwanted(services.Options.RestAfter, RestAtOnce))
        {
            var offer = new RestOffer();
            Context.PipeToSelf(
                cancellation => entity.AskAsync<TMessage, bool>(reply => message(offer, reply), services.Options.Ask, services.Time, cancellation),
                rests => (ShardMessage)new RestAnswered(() => Conclude(rests)),
                _ => new RestAnswered(() => Conclude(!offer.Withdraw()))); // its answer was lost: what the offer says counts

            void Conclude(bool rests)
            {
                if (rests)
                    Context.Watch(entity, new RestAnswered(() => family.Answered(key, rests: true)));
                else
                    family.Answered(key, rests: false);
            }
        }
    }

    private IActorRef<VmMessage> MakeVm(VmName vm) => Context.Spawn($"vm-{vm}", () => new VmLedger(services, tenure, vm), EntityOptions);

    private IActorRef<HostMessage> MakeHost(HostName host) => Context.Spawn($"host-{host}", () => new HostLedger(services, tenure, host), EntityOptions);

    private IActorRef<BatchMessage> MakeBatch(string id, BatchPlan? plan) =>
        Context.Spawn($"batch-{id}", () => new BatchSupervisor(services, tenure, starter, id, plan), EntityOptions);
}
