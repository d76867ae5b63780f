// A host agent as docs/PROTOCOL.md section 2 describes it, without machines: two ledgers, the phases, and what a restart makes of them. It is what the
// supervisors and the brain are tested against; it knows nothing of them.
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Unit.Supervisor;

internal sealed class ModelVm(VmSpec spec)
{
    public VmSpec Spec { get; set; } = spec;
    public Epoch RunEpoch { get; set; }
    public bool Owner { get; set; }
    public bool Running { get; set; }
    public bool Machine { get; set; } = true;

    public MigrationId? OutgoingId { get; set; }
    public SourcePhase Source { get; set; }
    public Epoch SourceEpoch { get; set; }
    public MigrationMode Mode { get; set; }
    public bool Stopped { get; set; }

    /// <summary>The agent knows, in this life, that it did not put the token on the wire.</summary>
    public bool TokenHeldBack { get; set; }

    public MigrationId? IncomingId { get; set; }
    public DestinationPhase Destination { get; set; }
    public Epoch DestinationEpoch { get; set; }
    public bool NeedsPull { get; set; }
    public FabricError? Error { get; set; }
}

internal sealed class ModelAgent(HostName name)
{
    private readonly Dictionary<CommandId, CommandResult> _stored = [];
    private readonly Dictionary<VmName, Epoch> _shardEpochs = [];
    private readonly HashSet<MigrationId> _refused = [];

    public HostName Name { get; } = name;
    public Guid Incarnation { get; private set; } = Guid.NewGuid();
    public long Version { get; private set; } = 1;
    public Dictionary<VmName, ModelVm> Vms { get; } = [];
    public long MemoryBytes { get; init; } = 8L * ByteSize.Gibi;
    public int Executed { get; private set; }

    public DataEndpoint Data => new("127.0.0.1", 7000);

    public void Touch() => Version++;

    public HostFacts Facts() => new(
        Name, Incarnation, Version, Data, MemoryBytes - Vms.Values.Where(static vm => vm.Machine).Sum(static vm => vm.Spec.MemoryBytes),
        [.. Vms.Values.Select(Fact)]);

    public CommandResult Execute(AgentCommand command)
    {
        var header = command.Header;
        if (header.ShardEpoch < _shardEpochs.GetValueOrDefault(header.Vm))
            return Refuse(header.Id, ErrorCodes.RefusedByEpoch, "an older shard epoch");
        _shardEpochs[header.Vm] = header.ShardEpoch;
        if (_stored.TryGetValue(header.Id, out var stored))
            return stored;
        Executed++;
        Touch();
        return _stored[header.Id] = new CommandResult(header.Id, Run(command));
    }

    /// <summary>kill -9 and start: the rows of the crash table.</summary>
    public void Restart()
    {
        Incarnation = Guid.NewGuid();
        Touch();
        foreach (var vm in Vms.Values)
        {
            if (vm.OutgoingId is not null)
            {
                vm.TokenHeldBack = false;
                if (vm.Source is SourcePhase.Pushing or SourcePhase.Converged)
                    vm.Source = SourcePhase.PushFailed;
                else if (vm.Source == SourcePhase.HandingOver)
                    Withdraw(vm);
            }

            if (vm.IncomingId is not { } incoming)
                continue;
            if (vm.Destination is DestinationPhase.Preparing or DestinationPhase.Prepared or DestinationPhase.Ready)
                RefuseFor(vm, incoming);
            else if (vm.Destination == DestinationPhase.TokenAccepted)
                Continue(vm);
        }
    }

    public void Continue(ModelVm vm)
    {
        vm.Running = true;
        vm.Destination = vm.NeedsPull ? DestinationPhase.Pulling : DestinationPhase.Complete;
        Touch();
    }

    public void Withdraw(ModelVm vm)
    {
        vm.Source = SourcePhase.Withdrawn;
        vm.Owner = true;
        vm.Running = true;
        Touch();
    }

    private FabricError? Run(AgentCommand command)
    {
        var vm = Vms.GetValueOrDefault(command.Header.Vm);
        switch (command)
        {
            case CreateVm create:
                if (vm is { Machine: true })
                    return new FabricError(ErrorCodes.AlreadyExists, "it is here");
                Vms[create.Spec.Name] = new ModelVm(create.Spec) { RunEpoch = create.Header.RunEpoch, Owner = true, Running = true };
                return null;
            case DeleteVm when vm is not null && IsOpen(vm, command.Header.Migration):
                return new FabricError(ErrorCodes.Conflict, "it is being migrated");
            case DeleteVm when vm is not null && vm.RunEpoch > command.Header.RunEpoch:
                return new FabricError(ErrorCodes.RefusedByEpoch, "another one of that name");
            case DeleteVm:
                return Vms.Remove(command.Header.Vm) ? null : new FabricError(ErrorCodes.NotFound, "not here");
            case PrepareIncoming prepare:
                return Prepare(prepare);
            case RefuseIncoming:
                return Refuse(vm, command.Header.Migration!.Value);
            case null:
                throw new ArgumentNullException(nameof(command));
            default:
                return vm is null ? new FabricError(ErrorCodes.NotFound, "no such VM here") : RunAtSource(command, vm);
        }
    }

    /// <summary>A migration that is not over in this ledger, and that the command does not name as lost.</summary>
    private static bool IsOpen(ModelVm vm, MigrationId? lost)
    {
        bool outgoing = vm.OutgoingId is not null && vm.Source is not (SourcePhase.PushFailed or SourcePhase.Withdrawn or SourcePhase.Released);
        bool incoming = vm.IncomingId is not null && vm.Destination is not (DestinationPhase.Complete or DestinationPhase.Refused or DestinationPhase.Lost);
        return (outgoing && (vm.OutgoingId != lost || vm.Owner)) || (incoming && (vm.IncomingId != lost || !vm.Owner));
    }

    private FabricError? RunAtSource(AgentCommand command, ModelVm vm)
    {
        var header = command.Header;
        bool mine = vm.OutgoingId == header.Migration;
        switch (command)
        {
            case StartPush push:
                if (!vm.Owner || !vm.Running)
                    return new FabricError(ErrorCodes.Conflict, "it does not run here");
                (vm.OutgoingId, vm.Source, vm.SourceEpoch, vm.Mode, vm.Stopped) = (header.Migration, SourcePhase.Pushing, Epoch.None, push.Options.Mode, false);
                return null;
            case CancelOutgoing when !mine:
                return null;
            case CancelOutgoing when vm.Source is SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained or SourcePhase.Released:
                return new FabricError(ErrorCodes.RefusedBySafety, "the token may have left");
            case CancelOutgoing when vm.Source is SourcePhase.HandingOver:
                Withdraw(vm);
                return null;
            case CancelOutgoing:
                vm.Source = vm.Source == SourcePhase.Withdrawn ? SourcePhase.Withdrawn : SourcePhase.PushFailed;
                return null;
            case HandOver handOver:
                if (!mine || vm.Source is not (SourcePhase.Pushing or SourcePhase.Converged) || header.RunEpoch <= vm.RunEpoch)
                    return new FabricError(ErrorCodes.Conflict, $"no push to hand over: {vm.Source}");
                (vm.Source, vm.SourceEpoch) = (SourcePhase.HandingOver, header.RunEpoch);
                vm.Mode = handOver.Mode;
                return null;
            case TakeBack:
                if (!mine || vm.Source is not (SourcePhase.TokenSent or SourcePhase.Withdrawn))
                    return new FabricError(ErrorCodes.Conflict, $"nothing to take back: {vm.Source}");
                (vm.RunEpoch, vm.Owner, vm.Running, vm.OutgoingId) = (header.RunEpoch, true, true, null);
                return null;
            case ServePull:
                return mine && vm.Machine && vm.Source is SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained
                    ? Served(vm)
                    : new FabricError(ErrorCodes.NotFound, "no pages of it here");
            case ReleaseSource:
                if (vm.Owner)
                    return new FabricError(ErrorCodes.RefusedBySafety, "it runs here");
                (vm.Machine, vm.Source) = (false, SourcePhase.Released);
                return null;
            default:
                return new FabricError(ErrorCodes.Unsupported, command.GetType().Name);
        }
    }

    private static FabricError? Served(ModelVm vm)
    {
        if (vm.Source == SourcePhase.TokenSent)
            vm.Source = SourcePhase.HandedOver;
        return null;
    }

    private FabricError? Prepare(PrepareIncoming prepare)
    {
        var id = prepare.Header.Migration!.Value;
        if (_refused.Contains(id))
            return new FabricError(ErrorCodes.Conflict, "refused before");
        if (Vms.TryGetValue(prepare.Header.Vm, out var there) && there.Machine)
            return new FabricError(ErrorCodes.AlreadyExists, "it is here");
        Vms[prepare.Header.Vm] = new ModelVm(prepare.Spec) { IncomingId = id, Destination = DestinationPhase.Prepared };
        return null;
    }

    private FabricError? Refuse(ModelVm? vm, MigrationId id)
    {
        if (vm?.IncomingId == id && vm.Destination is not (DestinationPhase.Preparing or DestinationPhase.Prepared or DestinationPhase.Ready or DestinationPhase.Refused))
            return new FabricError(ErrorCodes.RefusedBySafety, "the token was accepted");
        if (vm?.IncomingId == id)
            RefuseFor(vm, id);
        else
            _refused.Add(id);
        return null;
    }

    private void RefuseFor(ModelVm vm, MigrationId id)
    {
        _refused.Add(id);
        vm.Destination = DestinationPhase.Refused;
        vm.Machine = false;
    }

    private static VmFact Fact(ModelVm vm) => new(
        vm.Spec, vm.RunEpoch, vm.Owner, State(vm), vm.Machine ? 4711 : null,
        vm.OutgoingId is { } outgoing ? new SourceFact(outgoing, vm.Source, vm.SourceEpoch, vm.Mode, Stats(vm), vm.Source == SourcePhase.PushFailed ? vm.Error : null) : null,
        vm.IncomingId is { } incoming ? new DestinationFact(incoming, vm.Destination, vm.DestinationEpoch, new MigrationStats { Verified = true, ResumeMs = 3 }) : null);

    private static VmRunState State(ModelVm vm) => vm switch
    {
        { Machine: false } => VmRunState.Exited,
        { Running: true } => VmRunState.Running,
        { IncomingId: not null, Owner: false } => VmRunState.Incoming,
        _ => VmRunState.Paused,
    };

    private static MigrationStats Stats(ModelVm vm) => new()
    {
        TotalBytes = vm.Spec.MemoryBytes,
        WireBytes = vm.Spec.MemoryBytes / 2,
        PagesSent = vm.Spec.PageCount / 2,
        Rounds = 2,
        DowntimeMs = 12.5,
        WireRate = 1_000_000,
    };

    private static CommandResult Refuse(CommandId id, string code, string message) => new(id, new FabricError(code, message));
}
