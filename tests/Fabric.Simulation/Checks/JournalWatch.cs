using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Simulation.Worlds;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Migrations;
using Fabric.Supervisor.Vms;

namespace Fabric.Simulation.Checks;

/// <summary>Reads the journal as it grows, with books of its own: I4, I5, I6, and that intents are durable before anybody acts on them.</summary>
internal sealed class JournalWatch(World world)
{
    private readonly HashSet<MigrationId> _ofBatches = [];
    private readonly Dictionary<StreamId, long> _sequences = [];
    private readonly Dictionary<ShardId, Epoch> _epochs = [];
    private readonly Dictionary<StreamId, HashSet<string>> _kinds = [];
    private readonly Dictionary<MigrationId, MigrationState> _migrations = [];
    private readonly Dictionary<VmName, VmState> _vms = [];
    private readonly Dictionary<string, BatchState> _batches = new(StringComparer.Ordinal);

    internal IReadOnlyDictionary<MigrationId, MigrationState> Migrations => _migrations;

    internal IReadOnlyDictionary<VmName, VmState> Vms => _vms;

    internal IReadOnlyDictionary<string, BatchState> Batches => _batches;

    /// <summary>Claimed for an evacuation, so that limits hold for it.</summary>
    internal bool IsOfBatch(MigrationId migration) => _ofBatches.Contains(migration);

    internal void Acquired(ShardLease lease)
    {
        if (lease.Epoch <= _epochs.GetValueOrDefault(lease.Shard))
            world.Observer.Violated("I5", $"shard {lease.Shard.Value} was given at epoch {lease.Epoch} again");
        _epochs[lease.Shard] = lease.Epoch;
    }

    /// <summary>Events so far.</summary>
    internal long Written { get; private set; }

    internal void Committed(ShardId shard, JournalRecord record)
    {
        Written++;
        world.Trace($"journal: {record.Stream} #{record.Sequence} {record.Kind} (epoch {record.Epoch}, {record.Holder})");
        if (record.Sequence != _sequences.GetValueOrDefault(record.Stream) + 1)
            world.Observer.Violated("I5", $"{record.Stream} goes from {_sequences.GetValueOrDefault(record.Stream)} to {record.Sequence}");
        if (record.Epoch < _epochs.GetValueOrDefault(shard))
            world.Observer.Violated("I5", $"{record.Stream} takes {record.Kind} of epoch {record.Epoch}; shard {shard.Value} is at {_epochs[shard]}");
        _sequences[record.Stream] = record.Sequence;
        if (!_kinds.TryGetValue(record.Stream, out var kinds))
            _kinds[record.Stream] = kinds = new HashSet<string>(StringComparer.Ordinal);
        kinds.Add(record.Kind);
        try
        {
            Take(record);
        }
        catch (FabricException e)
        {
            world.Observer.Violated("I5", $"{record.Stream} #{record.Sequence}: {e.Message}");
        }
    }

    /// <summary>What a command says must follow from what is durable.</summary>
    internal void RequireIntent(SimNode node, AgentCommand command)
    {
        var vm = VmLedger.StreamOf(command.Header.Vm);
        var migration = command.Header.Migration is { } id ? MigrationSupervisor.StreamOf(id) : vm;
        (StreamId stream, string kind) = command switch
        {
            CreateVm => (vm, "vm-create-intended"),
            DeleteVm => (vm, "vm-delete-intended"),
            HandOver => (migration, "hand-over-intended"),
            TakeBack => (migration, "take-back-intended"),
            _ => (migration, command.Header.Migration is null ? "vm-create-intended" : "migration-planned"),
        };
        if (!_kinds.TryGetValue(stream, out var kinds) || !kinds.Contains(kind))
            world.Observer.Violated("I5", $"{node.Name} sends {command.GetType().Name} of {command.Header.Vm} before '{kind}' is durable");
    }

    private void Take(JournalRecord record)
    {
        string stream = record.Stream.Value;
        if (stream.StartsWith(MigrationSupervisor.StreamPrefix, StringComparison.Ordinal))
            TakeMigration(MigrationId.Parse(stream[MigrationSupervisor.StreamPrefix.Length..]), Decoded(EventCodec.Catalog, record));
        else if (stream.StartsWith(VmLedger.StreamPrefix, StringComparison.Ordinal))
            TakeVm(VmName.Parse(stream[VmLedger.StreamPrefix.Length..]), Decoded(VmEvents.Catalog, record), record);
        else if (stream.StartsWith(BatchSupervisor.StreamPrefix, StringComparison.Ordinal))
            _batches[stream] = BatchState.Apply(_batches.GetValueOrDefault(stream), Decoded(BatchEvents.Catalog, record))!;
    }

    private void TakeMigration(MigrationId id, MigrationEvent happened)
    {
        var state = _migrations.GetValueOrDefault(id, Unborn.Instance);
        if (state is TerminalState end)
            world.Observer.Violated("I6", $"migration {id} is {end.Name} and takes {EventCodec.KindOf(happened)}");
        var (next, error) = Transitions.Apply(state, happened);
        if (error is not null)
            throw new FabricException(error);
        _migrations[id] = next!;
        if (state is Unborn && next is ActiveState born)
        {
            if (_migrations.Values.OfType<ActiveState>().Count(m => m.Plan.Vm == born.Plan.Vm) > 1)
                world.Observer.Violated("I4", $"{born.Plan.Vm} has two migrations at once");
        }
    }

    private void TakeVm(VmName vm, VmEvent happened, JournalRecord record)
    {
        if (happened is MigrationClaimed { Plan: { Batch: not null } plan })
            _ofBatches.Add(plan.Id);
        var before = _vms.GetValueOrDefault(vm) ?? VmState.None(vm);
        if (happened is MigrationClaimed && before.Active is { } active)
            world.Observer.Violated("I4", $"{vm} is claimed while migration {active.Id} has it");
        _vms[vm] = before.Apply(happened);
    }

    private static TEvent Decoded<TEvent>(EventCatalog<TEvent> catalog, JournalRecord record)
        where TEvent : class
    {
        var (happened, error) = catalog.Decode(record.Kind, record.Version, record.Payload);
        return error is null ? happened! : throw new FabricException(error);
    }
}
