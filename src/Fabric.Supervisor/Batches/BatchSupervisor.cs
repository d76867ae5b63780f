// One evacuation: cordon, then move every VM once within the limits, try a failed one elsewhere a limited number of times, and end. Each migration is asked for under
// a request id that is computed from batch, VM and attempt, so a successor asks for the same one and gets it.
using System.Globalization;
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;
using Fabric.Supervisor.Shards;

namespace Fabric.Supervisor.Batches;

internal abstract record BatchMessage;

/// <summary>Answered once the batch is durable.</summary>
internal sealed record BatchLoaded(IReply<BatchState> Reply) : BatchMessage;

/// <summary>Nobody uses this supervisor: it may end if the batch is over. Answered with whether it does.</summary>
internal sealed record BatchRest(RestOffer Offer, IReply<bool> Reply) : BatchMessage;

internal sealed record BatchLook : BatchMessage
{
    public static BatchLook Instance { get; } = new();
}

/// <summary>A limit was reached a while ago: it may have room again.</summary>
internal sealed record RoomLook : BatchMessage
{
    public static RoomLook Instance { get; } = new();
}

internal sealed record CordonDone(FabricError? Error) : BatchMessage;

internal sealed record StartAnswered(VmName Vm, HostName Destination, KnownState? Migration, FabricError? Error) : BatchMessage;

/// <summary>The pause after a start whose outcome is unknown is over.</summary>
internal sealed record StartAgain(VmName Vm) : BatchMessage;

internal sealed class BatchSupervisor(ControlServices services, ShardTenure tenure, IMigrationStarter starter, string id, BatchPlan? plan) : Actor<BatchMessage>
{
    private readonly EventStream<BatchEvent> _stream = new(services.Journal, tenure, StreamOf(id), BatchEvents.Catalog);
    private readonly HashSet<VmName> _starting = []; // asked for, or pausing before it is asked for again
    private readonly List<IDisposable> _subscriptions = [];
    private BatchState? _state;
    private bool _cordoned;
    private bool _roomAwaited; // while a RoomLook is on its way
    private int _lookQueued; // 1 while a look waits in the mailbox

    public const string StreamPrefix = "batch/";

    public static StreamId StreamOf(string id) => new(StreamPrefix + id);

    protected override async ValueTask StartedAsync()
    {
        foreach (var happened in await _stream.LoadAsync(Context.Stopping))
            _state = BatchState.Apply(_state, happened);
        if (_state is null)
            await AppendAsync(new BatchPlanned(services.Now, plan ?? throw new FabricException(ErrorCodes.NotFound, $"There is no batch '{id}'.")));
        services.Board.Publish(_state!);
        if (_state!.EndedAt is not null)
            return;
        // Only what concerns its own VMs, and room under the limits: a hundred batches that look at every step of every migration do nothing else.
        _subscriptions.Add(services.Board.Subscribe(Board.RoomTopic, QueueLook));
        _subscriptions.AddRange(_state.Items.Where(static item => !item.Over).Select(item => services.Board.Subscribe(Board.VmTopic(item.Vm), QueueLook)));
        Cordon();
    }

    protected override ValueTask StoppingAsync()
    {
        foreach (var subscription in _subscriptions)
            subscription.Dispose();
        _subscriptions.Clear();
        return ValueTask.CompletedTask;
    }

    protected override async ValueTask ReceiveAsync(BatchMessage message)
    {
        switch (message)
        {
            case BatchLoaded loaded:
                loaded.Reply.Succeed(_state!);
                return;
            case BatchRest rest:
                if (rest.Offer.Answer(_state!.EndedAt is not null, rest.Reply))
                    Context.Stop();
                return;
            case CordonDone { Error: null }:
                _cordoned = true;
                break;
            case CordonDone:
                Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry * 5), BatchLook.Instance);
                return;
            case BatchLook:
                Volatile.Write(ref _lookQueued, 0);
                break;
            case RoomLook:
                _roomAwaited = false;
                break;
            case StartAnswered answered:
                await StartedItemAsync(answered);
                break;
            case StartAgain again:
                _starting.Remove(again.Vm);
                break;
            default:
                throw new InvalidOperationException($"No handler is written for {message.GetType().Name}.");
        }

        await AdvanceAsync();
    }

    private void Cordon() => Context.PipeToSelf<bool>(
        async cancellation =>
        {
            await starter.SetCordonedAsync(_state!.Plan.Host, cordoned: true, CordonReason(_state.Plan), cancellation);
            return true;
        },
        static _ => new CordonDone(null),
        static error => new CordonDone(error));

    private static string CordonReason(BatchPlan plan) => $"evacuation {plan.Id}" + (plan.Options.Reason is { } reason ? $": {reason}" : "");

    private async Task AdvanceAsync()
    {
        if (_state!.EndedAt is not null || !tenure.Held)
            return;
        if (!_cordoned)
        {
            Cordon();
            return;
        }

        foreach (var item in _state.Items.Where(static item => item.Phase == ItemPhase.Migrating))
        {
            if (services.Board.Migration(item.Migration!.Value) is { } migration && Verdict(item, migration) is { } verdict)
                await AppendAsync(verdict);
        }

        // Until this node has read every shard once it does not know what moves already, and the limits would be counted without it.
        if (services.Board.Opened is null && !_state.Over)
        {
            Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry * 5), BatchLook.Instance);
            return;
        }

        foreach (var item in _state.Items.Where(item => item.Phase == ItemPhase.Waiting && !_starting.Contains(item.Vm)))
            await StartAsync(item);
        if (!_state.Over)
            return;
        await AppendAsync(new BatchEnded(services.Now));
        await StoppingAsync(); // nothing more is to be looked at
    }

    private BatchEvent? Verdict(BatchItem item, KnownState migration) => migration switch
    {
        Completed => new ItemMoved(services.Now, item.Vm),
        Lost lost => new ItemFailed(services.Now, item.Vm, lost.Cause),
        TerminalState over => ElsewhereOrFail(item, over.Error ?? new FabricError(ErrorCodes.Internal, "The migration ended without a reason.")),
        NeedsFencing => new ItemFailed(services.Now, item.Vm, new FabricError(
            ErrorCodes.Unreachable, $"Migration {migration.Plan.Id} waits until '{migration.Plan.Destination}' answers or is fenced.", $"fabric migration show {migration.Plan.Id}")),
        _ => null,
    };

    private async Task StartAsync(BatchItem item)
    {
        var vm = services.Board.Vm(item.Vm);
        if (vm is null)
            return; // its shard is still being read
        if (vm.Active is { } active && active.RequestId != RequestId(item))
        {
            // Another migration of it is under way; where it ends says what is left to do.
            if (services.Board.Migration(active.Id) is NeedsFencing stuck && Verdict(item, stuck) is { } verdict)
                await AppendAsync(verdict);
            return;
        }

        if (vm.Owner is { } owner && owner != _state!.Plan.Host && vm.Active is null)
        {
            await AppendAsync(new ItemMoved(services.Now, item.Vm)); // somebody else moved it meanwhile
            return;
        }

        if (MigrationRules.Obstacle(services, vm, item.Vm) is { } obstacle && obstacle.Code is ErrorCodes.NotFound or ErrorCodes.Lost)
        {
            await AppendAsync(new ItemFailed(services.Now, item.Vm, obstacle));
            return;
        }

        var destination = item.Destination!.Value;
        if (services.Gate.TryReserve(item.Vm, new Movement(_state!.Plan.Host, destination), _state.Plan.Limits) is not { } reservation)
        {
            AwaitRoom();
            return;
        }

        _starting.Add(item.Vm);
        var request = RequestId(item);
        var options = _state.Plan.Options;
        var membership = new BatchMembership(id, _state.Plan.Limits);
        Context.PipeToSelf(
            async cancellation =>
            {
                using (reservation)
                    return await starter.StartAsync(item.Vm, destination, options, request, membership, cancellation);
            },
            migration => (BatchMessage)new StartAnswered(item.Vm, destination, migration, null),
            error => new StartAnswered(item.Vm, destination, null, error));
    }

    /// <summary>
    /// Who ends a migration says so. A place that was reserved for a start which came to nothing is given back without a word: whoever asked for it would hear it too, and
    /// ask again at once, for ever.
    /// </summary>
    private void AwaitRoom()
    {
        if (_roomAwaited)
            return;
        _roomAwaited = true;
        Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry * 5), RoomLook.Instance);
    }

    private async Task StartedItemAsync(StartAnswered answered)
    {
        if (answered.Error is { Code: ErrorCodes.DeadlineExceeded or ErrorCodes.Unreachable or ErrorCodes.StoreFailed } && services.Board.Host(answered.Destination).Current)
        {
            // Unknown, or a shard on its way: the same id again. Not before: a refusal that comes at once would be asked for without end.
            Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry * 5), new StartAgain(answered.Vm));
            return;
        }

        _starting.Remove(answered.Vm);
        var item = _state!.Items.Find(other => other.Vm == answered.Vm);
        if (item is not { Phase: ItemPhase.Waiting })
            return;
        if (answered.Migration is { } migration)
            await AppendAsync(new ItemStarted(services.Now, answered.Vm, answered.Destination, migration.Plan.Id));
        else
            await AppendAsync(ElsewhereOrFail(item, answered.Error!));
    }

    /// <summary>Another destination while attempts are left and one can take it; else the VM's last word.</summary>
    private BatchEvent ElsewhereOrFail(BatchItem item, FabricError why)
    {
        var tried = item.Destination is { } last ? item.Tried.Add(last) : item.Tried;
        var vm = services.Board.Vm(item.Vm);
        if (vm is not { Status: Vms.VmStatus.Present, Spec: { } spec } || tried.Count >= services.Options.BatchAttempts)
            return new ItemFailed(services.Now, item.Vm, why);
        var hosts = EvacuationPlanner.Destinations(services, []);
        var avoid = new Dictionary<VmName, IReadOnlySet<HostName>> { [item.Vm] = tried };
        var placement = BatchPlanner.Place(_state!.Plan.Host, [new PlannerVm(spec, null)], hosts, avoid)[0];
        return placement.Destination is { } elsewhere
            ? new ItemPlacedAnew(services.Now, item.Vm, elsewhere, why)
            : new ItemFailed(services.Now, item.Vm, why);
    }

    private Guid RequestId(BatchItem item) =>
        CommandIds.For(string.Create(CultureInfo.InvariantCulture, $"batch/{id}/{item.Vm}"), "migrate", item.Tried.Count).Value;

    private async Task AppendAsync(BatchEvent happened)
    {
        await _stream.AppendAsync([happened], Context.Stopping);
        _state = BatchState.Apply(_state, happened);
        services.Board.Publish(_state!);
    }

    private void QueueLook()
    {
        if (Interlocked.Exchange(ref _lookQueued, 1) == 0 && !Context.Self.TryTell(BatchLook.Instance))
            Volatile.Write(ref _lookQueued, 0);
    }
}
