// One VM on one host. Owns the VM's ledger and its machine; decides by the ledger alone whether the VM may run here
// (docs/PROTOCOL.md §2). Children: memory, disk, balloon. Who may touch what: the ledger and VmState belong to this actor's turn;
// the machine is also used by the hand-over operation (source) and the incoming handler (destination), never by both at once.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Host.Disk;
using Fabric.Host.Ledger;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Migration;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Vm;

internal sealed partial class VmActor(VmName name, HostParts parts) : Actor<VmMessage>
{
    private static readonly TimeSpan MachineDeadline = TimeSpan.FromSeconds(30);

    private readonly ILogger _logger = parts.Loggers.CreateLogger("Fabric.Host.Vm." + name);
    private readonly VmState _live = new();
    private readonly List<Action> _outbox = [];
    private IVmLedger? _ledger;
    private FabricError? _damaged;
    private FabricError? _unrecovered;
    private IActorRef<MemoryMessage> _memory = null!;
    private IActorRef<DiskMessage> _disk = null!;
    private IActorRef<BalloonMessage> _balloon = null!;

    private IVmLedger Ledger => _ledger ?? throw new FabricException(_damaged ?? new FabricError(ErrorCodes.Internal, "The ledger is not open."));

    private VmLedgerState Recorded => Ledger.State;

    protected override async ValueTask StartedAsync()
    {
        _memory = Context.Spawn("memory", () => new MemoryActor(Context.Self, parts.Plane, parts.MemoryMetrics, parts.Random(), parts.Loggers.CreateLogger("Fabric.Host.Memory." + name)));
        _disk = Context.Spawn("disk", () => new DiskActor(parts.DiskMetrics));
        _balloon = Context.Spawn("balloon", () => new BalloonActor(parts.BalloonMetrics, parts.Random(), parts.Loggers.CreateLogger("Fabric.Host.Balloon." + name)));
        try
        {
            _ledger = parts.Ledgers.Open(name);
            await RecoverAsync();
        }
        catch (FabricException e)
        {
            _damaged = e.Error;
            _logger.LogError("VM {Vm} is left alone: {Error}", name, e.Error);
        }

        DirectBalloon();
        Publish();
    }

    protected override async ValueTask StoppingAsync()
    {
        (_live.Work as VmWork.HandingOver)?.Cancel.Cancel();
        if (_live.Machine is { } machine)
            await machine.DisposeAsync();
        _ledger?.Dispose();
    }

    protected override async ValueTask ReceiveAsync(VmMessage message)
    {
        switch (message)
        {
            case Execute m: await OnExecuteAsync(m with { Reply = new AfterPublishing(_outbox, m.Reply) }); break;
            case RecoveryAwaited m: m.Reply.Succeed(true); break;
            case MachineMade m: await OnMachineMadeAsync(m); break;
            case MachineExited m: OnMachineExited(m); break;
            case PushConverged m: OnPushConverged(m); break;
            case PushBroke m: OnPushBroke(m); break;
            case Progress m: OnProgress(m); break;
            case MemoryTaken m: OnMemoryTaken(m); break;
            case MemoryGivenBack m: OnMemoryGivenBack(m); break;
            case GiveBackAgain: GiveBackWhatIsLent(); break;
            case RecordTokenSent m: OnRecordTokenSent(m); break;
            case HandOverEnded m: await OnHandOverEndedAsync(m); break;
            case PullServed m: OnPullServed(m); break;
            case ServingStalled m: _live.Stalled = m.Stalled ? m.Migration : null; break;
            case IncomingReady m: OnIncomingReady(m); break;
            case TokenArrived m: await OnTokenArrivedAsync(m); break;
            case PullArrived m: OnPullArrived(m); break;
            case IncomingEnded m: await OnIncomingEndedAsync(m); break;
            case PullResumed m: OnPullResumed(m); break;
            case RecoverAgain: await RecoverAsync(); break;
            case ContinueAgain m: await ContinueOwnedAsync(m.Attempt); break;
            case Announced m: OnAnnounced(m); break;
        }

        DirectBalloon();
        Publish();
        foreach (var answer in _outbox)
            answer();
        _outbox.Clear();
    }

    /// <summary>Fencing and repetition first, for every command alike; then the command itself.</summary>
    private async ValueTask OnExecuteAsync(Execute m)
    {
        var header = m.Command.Header;
        if (_damaged is { } damaged)
        {
            m.Reply.Succeed(new CommandResult(header.Id, damaged));
            return;
        }

        if (_unrecovered is { } unrecovered)
        {
            m.Reply.Succeed(new CommandResult(header.Id, new FabricError(ErrorCodes.Conflict, $"VM '{name}' is still being recovered on host {parts.Host}: {unrecovered.Message}", "Ask again.")));
            return;
        }

        if (Recorded.AnswerTo(header.Id) is { } stored)
        {
            m.Reply.Succeed(new CommandResult(header.Id, stored.Error));
            return;
        }

        if (_live.Work is VmWork.Making making && making.Command.Header.Id == header.Id)
        {
            making.Askers.Add(m.Reply);
            return;
        }

        if (header.ShardEpoch < Recorded.ShardEpoch || (header.ShardEpoch == Recorded.ShardEpoch && header.ShardTerm != Recorded.ShardTerm))
        {
            parts.VmMetrics.Fenced();
            string other = header.ShardEpoch == Recorded.ShardEpoch ? " in another term" : "";
            m.Reply.Succeed(new CommandResult(
                header.Id,
                new FabricError(ErrorCodes.RefusedByEpoch, $"The command comes from shard epoch {header.ShardEpoch}; epoch {Recorded.ShardEpoch}{other} has spoken for VM '{name}'."),
                Recorded.ShardEpoch));
            return;
        }

        try
        {
            if (header.ShardEpoch > Recorded.ShardEpoch)
                Ledger.Append(new VmRecord.ShardSeen(header.ShardEpoch, header.ShardTerm));
            await DispatchAsync(m.Command, m.Reply);
        }
        catch (Exception e) when (e is FabricException or LedgerContradictionException or OperationCanceledException)
        {
            var error = e is LedgerContradictionException ? new FabricError(ErrorCodes.Conflict, e.Message) : MemoryActor.Describe(e);
            m.Reply.Succeed(new CommandResult(header.Id, error));
        }
    }

    private async ValueTask DispatchAsync(AgentCommand command, IReply<CommandResult> reply)
    {
        switch (command)
        {
            case CreateVm c: OnCreate(c, reply); break;
            case DeleteVm c: await OnDeleteAsync(c, reply); break;
            case PrepareIncoming c: await OnPrepareIncomingAsync(c, reply); break;
            case RefuseIncoming c: await OnRefuseIncomingAsync(c, reply); break;
            case StartPush c: await OnStartPushAsync(c, reply); break;
            case CancelOutgoing c: OnCancelOutgoing(c, reply); break;
            case HandOver c: OnHandOver(c, reply); break;
            case TakeBack c: await OnTakeBackAsync(c, reply); break;
            case ServePull c: OnServePull(c, reply); break;
            case ReleaseSource c: await OnReleaseSourceAsync(c, reply); break;
            case SetBalloon c: await OnSetBalloonAsync(c, reply); break;
            default: throw new FabricException(ErrorCodes.Unsupported, $"This agent does not know the command {command.GetType().Name}.");
        }
    }

    private void OnCreate(CreateVm c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        if (c.Spec.Validate() is { } invalid)
            throw new FabricException(invalid);
        if (Recorded.Spec is not null && (Recorded.Owner || Recorded.Incoming is { Ended: false } || Recorded.Outgoing is { Ended: false }))
            throw new FabricException(ErrorCodes.AlreadyExists, $"VM '{name}' is already on host {parts.Host}.");
        parts.Admission.Enter(c.Spec);
        Make(c, c.Spec, MachineBirth.Boot, reply);
    }

    /// <summary>Starts a machine beside the actor; <see cref="OnMachineMadeAsync"/> goes on.</summary>
    private void Make(AgentCommand command, VmSpec spec, MachineBirth birth, IReply<CommandResult> reply)
    {
        var factory = parts.Factory(spec.Machine);
        _live.Work = new VmWork.Making(command, [reply]);
        _live.RunState = birth == MachineBirth.Boot ? VmRunState.Starting : VmRunState.Incoming;
        Context.PipeToSelf<VmMessage>(
            async stopping =>
            {
                using var deadline = new CancellationTokenSource(MachineDeadline, Context.Time);
                using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, stopping);
                return new MachineMade(command, await factory.CreateAsync(spec, birth, either.Token), null);
            },
            static made => made,
            error => new MachineMade(command, null, error));
    }

    private async ValueTask OnMachineMadeAsync(MachineMade m)
    {
        var askers = _live.Work is VmWork.Making making ? making.Askers : [];
        _live.Work = new VmWork.None();
        var error = m.Error;
        try
        {
            if (m.Machine is not null)
                Hold(m.Machine);
            if (m.Command is CreateVm create)
                error = FinishCreate(create, m.Machine, m.Error);
            else if (m.Command is PrepareIncoming prepare)
                error = await FinishPrepareAsync(prepare, m.Machine, m.Error);
        }
        catch (FabricException e)
        {
            error = e.Error;
            await DropMachineAsync();
        }

        foreach (var asker in askers)
            asker.Succeed(new CommandResult(m.Command.Header.Id, error));
    }

    private FabricError? FinishCreate(CreateVm c, IMachine? machine, FabricError? error)
    {
        if (machine is null)
        {
            _live.RunState = VmRunState.Exited;
            Ledger.Append(new VmRecord.Answered(c.Header.Id, error));
            return error;
        }

        Ledger.Append(new VmRecord.Owned(c.Header.RunEpoch, c.Spec), new VmRecord.MachineStarted(machine.AdoptionRecord), new VmRecord.Answered(c.Header.Id, null));
        _live.RunState = VmRunState.Running;
        return null;
    }

    /// <summary>
    /// A command that names a migration says that this migration ended `lost`: whatever is left of it here goes with the VM. The record of its end and
    /// of the deletion are one write, so there is no state in which the right to run could come back.
    /// </summary>
    private async ValueTask OnDeleteAsync(DeleteVm c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        if (c.Header.RunEpoch < Recorded.RunEpoch)
            throw new FabricException(ErrorCodes.RefusedByEpoch, $"The command is about run epoch {c.Header.RunEpoch}; VM '{name}' is at {Recorded.RunEpoch} on host {parts.Host}.");
        var ends = EndsOfLost(c.Header.Migration);
        if ((Recorded.Outgoing is { Ended: false } || Recorded.Incoming is { Ended: false }) && ends is null)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{name}' is being migrated.", "Wait for the migration's end or abort it.");
        _memory.TryTell(new EndOutgoing());
        _memory.TryTell(new EndIncoming());
        await DropMachineAsync();
        if (ends is { } end)
            Ledger.Append(end, new VmRecord.Deleted(), new VmRecord.Answered(c.Header.Id, null));
        else
            Ledger.Append(new VmRecord.Deleted(), new VmRecord.Answered(c.Header.Id, null));
        if (ends is VmRecord.IncomingLost { Migration: var pulled })
            parts.RemovePullMap(pulled);
        Done(c, reply);
    }

    /// <summary>The record that ends a lost migration in this ledger; null when it is not open here, or open in a phase from which nothing is ever lost.</summary>
    private VmRecord? EndsOfLost(MigrationId? lost) => Recorded switch
    {
        { Outgoing: { Phase: SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained } outgoing } when outgoing.Migration == lost =>
            new VmRecord.Released(outgoing.Migration),
        { Incoming: { Step: IncomingStep.Accepted } incoming } when incoming.Migration == lost =>
            new VmRecord.IncomingLost(incoming.Migration, "The VM was deleted after its migration was lost."),
        _ => null,
    };

    private void Hold(IMachine machine)
    {
        _live.Machine = machine;
        parts.RememberConsole(name, machine.ConsoleLog);
        _balloon.TryTell(new MachineAttached(machine));
        Context.PipeToSelf<VmMessage>(
            async stopping => new MachineExited(machine, await machine.Exited.WaitAsync(stopping)),
            static exited => exited,
            error => new MachineExited(machine, error.Message));
    }

    /// <summary>Ends the machine and all that belonged to it on this host.</summary>
    private async ValueTask DropMachineAsync()
    {
        if (_live.Machine is not { } machine)
            return;
        _live.Machine = null;
        _live.RunState = VmRunState.Exited;
        _balloon.TryTell(new MachineDetached());
        await EndAsync(machine, Context.Stopping);
    }

    private static async Task EndAsync(IMachine machine, CancellationToken cancellation)
    {
        await machine.KillAsync(cancellation);
        await machine.DisposeAsync();
    }

    private void RefuseWhenBusy()
    {
        if (_live.Work is not VmWork.None)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{name}' is busy on host {parts.Host} ({_live.Work.GetType().Name}).", "Ask again.");
    }

    private static void Done(AgentCommand command, IReply<CommandResult> reply) => reply.Succeed(new CommandResult(command.Header.Id, null));

    private void Publish()
    {
        var fact = VmFacts.From(name, _damaged, _ledger?.State, _live);
        parts.Admission.Show(name, fact, _ledger?.State, Stalled());
        parts.Facts.Publish(name, fact);
    }

    /// <summary>The outgoing migration for which nothing can be done here now: a pull without its destination, or a token of which nobody knows what became of it.</summary>
    private MigrationId? Stalled() =>
        _live.Stalled ?? (_ledger?.State.Outgoing is { Phase: SourcePhase.TokenSent } waits && _live.Work is not VmWork.HandingOver ? waits.Migration : null);

    /// <summary>Whoever has an answer finds the facts that follow from it: answers leave after the facts of their turn.</summary>
    private sealed class AfterPublishing(List<Action> outbox, IReply<CommandResult> inner) : IReply<CommandResult>
    {
        public void Succeed(CommandResult value) => outbox.Add(() => inner.Succeed(value));

        public void Fail(FabricError error) => outbox.Add(() => inner.Fail(error));
    }
}
