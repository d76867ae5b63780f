// One VM's entry in the books: who owns it, at which epoch, and the one migration that may change that. It is the parent of that migration's supervisor.
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;

namespace Fabric.Supervisor.Vms;

internal sealed partial class VmLedger(ControlServices services, ShardTenure tenure, VmName name) : Actor<VmMessage>
{
    /// <summary>Supervisors come back for as long as the shard is ours: a store that is down for minutes is no reason to give up.</summary>
    private static readonly ActorOptions SupervisorOptions = new() { MaxRestarts = int.MaxValue, MailboxCapacity = 64 };

    private readonly EventStream<VmEvent> _stream = new(services.Journal, tenure, StreamOf(name), VmEvents.Catalog);
    private readonly List<IReply<VmState>> _creating = [];
    private readonly List<IReply<VmState>> _deleting = [];
    private VmState _state = VmState.None(name);
    private IActorRef<MigrationMessage>? _supervisor;
    private int _createFailures;

    public const string StreamPrefix = "vm/";

    public static StreamId StreamOf(VmName vm) => new(StreamPrefix + vm);

    protected override async ValueTask StartedAsync()
    {
        MigrationId? settled = null;
        foreach (var happened in await _stream.LoadAsync(Context.Stopping))
        {
            _state = _state.Apply(happened);
            settled = (happened as MigrationSettled)?.Migration ?? settled;
        }

        services.Board.Publish(_state);
        if (settled is { } last)
            await ShowEndAsync(last);
        await SettleIfOverAsync();
        Resume();
    }

    protected override ValueTask ReceiveAsync(VmMessage message) => message switch
    {
        VmLoaded loaded => Answer(loaded),
        CreateAsked asked => CreateAsync(asked),
        CreateAnswered answered => CreatedAsync(answered),
        MigrateAsked asked => MigrateAsync(asked),
        AbortAsked asked => Abort(asked),
        MigrationEnded ended => SettleAsync(ended.End),
        SupervisorGone gone => SupervisorEnded(gone),
        DeleteAsked asked => DeleteAsync(asked),
        DeleteAnswered answered => DeletedAsync(answered),
        HostShows shows => Do(() => Tidy(shows.Host)),
        Tidied tidied => Do(() => OnTidied(tidied)),
        RepairAsked asked => Do(() => Repair(asked)),
        RepairHeard heard => JudgeAsync(heard),
        RepairBlocked blocked => Do(() => Blocked(blocked)),
        VmResume => Do(Resume),
        VmRest rest => Do(() => Rest(rest)),
        _ => throw new InvalidOperationException($"No handler is written for {message.GetType().Name}."),
    };

    /// <summary>Goes on with whatever the ledger says is unfinished. Every part of it may be done twice.</summary>
    private void Resume()
    {
        switch (_state)
        {
            case { Status: VmStatus.Creating, Spec: { } spec, Owner: { } host }:
                SendCreate(spec, host);
                break;
            case { Status: VmStatus.Deleting }:
                SendDelete();
                break;
            case { Active: { } plan } when _supervisor is null:
                Supervise(plan);
                break;
            default:
                break;
        }
    }

    private void Rest(VmRest asked)
    {
        bool idle = _state is { Active: null, Status: VmStatus.Absent or VmStatus.Present or VmStatus.Lost } && _supervisor is null && _creating.Count + _deleting.Count + _tidying.Count == 0 && _repair is null;
        if (asked.Offer.Answer(idle, asked.Reply))
            Context.Stop();
    }

    private void Supervise(MigrationPlan plan)
    {
        var self = Context.Self;
        _supervisor = Context.Spawn($"migration-{plan.Id}", () => new MigrationSupervisor(services, tenure, plan, self), SupervisorOptions);
        Context.Watch(_supervisor, new SupervisorGone(plan.Id));
    }

    private async ValueTask MigrateAsync(MigrateAsked asked)
    {
        if (asked.RequestId is { } request && Repeated(request) is { } already)
        {
            asked.Reply.Succeed(already);
            return;
        }

        if (MigrationRules.Refusal(services, _state, name, asked.Destination) is { } refusal)
        {
            asked.Reply.Fail(refusal);
            return;
        }

        // The spec as the agent runs it: 'auto' is resolved there, once, and travels with the VM.
        var spec = services.Board.Host(_state.Owner!.Value).Vm(name)?.Spec ?? _state.Spec!;
        var plan = new MigrationPlan(
            services.Ids.NewMigration(), spec, _state.Owner!.Value, asked.Destination, asked.Options, _state.Epoch, _state.Highest.Next,
            services.Options.NewTicket(), services.Now, asked.Batch?.Id, asked.RequestId, asked.Batch?.Limits);
        await AppendAsync(new MigrationClaimed(services.Now, plan));
        var planned = new Planned(plan, plan.PlannedAt);
        services.Board.Publish(planned); // the supervisor's own event follows; the claim is durable and will not be forgotten
        Supervise(plan);
        asked.Reply.Succeed(planned);
    }

    private KnownState? Repeated(Guid request) =>
        _state.Active is { } active && active.RequestId == request
            ? services.Board.Migration(active.Id) ?? new Planned(active, active.PlannedAt)
            : services.Board.MigrationOfRequest(request);

    private ValueTask Abort(AbortAsked asked)
    {
        if (_state.Active?.Id != asked.Migration || _supervisor is null)
        {
            asked.Reply.Fail(new FabricError(ErrorCodes.Conflict, $"Migration {asked.Migration} is over.", $"fabric migration show {asked.Migration}"));
            return ValueTask.CompletedTask;
        }

        if (!_supervisor.TryTell(new GiveUp(asked.Reason, asked.Reply)))
            asked.Reply.Fail(new FabricError(ErrorCodes.Exhausted, $"Migration {asked.Migration} has too many requests waiting.", "Try again."));
        return ValueTask.CompletedTask;
    }

    private async ValueTask SettleAsync(TerminalState end)
    {
        if (_state.Active?.Id != end.Plan.Id)
            return; // told twice
        _supervisor = null;
        await AppendAsync(new MigrationSettled(services.Now, end.Plan.Id, end.Owner, end.OwnerEpoch, end.HighestEpoch, end is Lost));
        services.Board.Publish(end);
        RepairAfter(end.Plan.Id);
    }

    /// <summary>The migration's stream, which was read before this ledger, ended in the last life, and the ledger was not told.</summary>
    private async ValueTask SettleIfOverAsync()
    {
        if (_state.Active is { } active && services.Board.Migration(active.Id) is TerminalState end)
            await SettleAsync(end);
    }

    /// <summary>
    /// The last life settled this migration and was not answered, so it ended before it could show the end: whoever looks would see the migration
    /// going on for ever, and the limits would count it.
    /// </summary>
    private async ValueTask ShowEndAsync(MigrationId settled)
    {
        if (services.Board.Migration(settled) is not ActiveState)
            return;
        var events = await new EventStream<MigrationEvent>(services.Journal, tenure, MigrationSupervisor.StreamOf(settled), EventCodec.Catalog).LoadAsync(Context.Stopping);
        if (Transitions.Replay(Unborn.Instance, events).State is TerminalState end)
            services.Board.Publish(end);
    }

    private ValueTask SupervisorEnded(SupervisorGone gone)
    {
        if (_state.Active?.Id != gone.Migration)
            return ValueTask.CompletedTask;
        _supervisor = null;
        if (tenure.Held)
            Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry), VmResume.Instance);
        return ValueTask.CompletedTask;
    }

    private async Task AppendAsync(VmEvent happened)
    {
        await _stream.AppendAsync([happened], Context.Stopping);
        _state = _state.Apply(happened);
        services.Board.Publish(_state);
    }

    private ValueTask Answer(VmLoaded loaded) => Do(() => loaded.Reply.Succeed(_state));

    private static ValueTask Do(Action action)
    {
        action();
        return ValueTask.CompletedTask;
    }
}
