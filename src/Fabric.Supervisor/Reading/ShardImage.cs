using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Hosts;
using Fabric.Supervisor.Migrations;
using Fabric.Supervisor.Vms;

namespace Fabric.Supervisor.Reading;

/// <summary>
/// What the events of one shard add up to, entity by entity: the same folds that the entities' actors do, without the actors. It is how a node knows of shards that it does not
/// hold. One thread.
/// </summary>
internal sealed class ShardImage
{
    private readonly Dictionary<StreamId, long> _sequences = [];
    private readonly Dictionary<MigrationId, MigrationState> _migrations = [];
    private readonly Dictionary<VmName, VmState> _vms = [];
    private readonly Dictionary<string, BatchState> _batches = new(StringComparer.Ordinal);
    private readonly Dictionary<HostName, Cordon?> _hosts = [];
    private readonly HashSet<StreamId> _changed = [];
    private readonly List<MigrationPlan> _claimed = [];

    /// <summary>Of the last event that was applied; 0 before the first.</summary>
    public long Position { get; private set; }

    /// <exception cref="FabricException">corrupt or unsupported, naming stream and sequence.</exception>
    public void Apply(JournalRecord record)
    {
        ArgumentNullException.ThrowIfNull(record);
        if (record.Position != Position + 1)
            throw Corrupt(record, $"has position {record.Position} in its shard, after {Position}");
        if (record.Sequence != _sequences.GetValueOrDefault(record.Stream) + 1)
            throw Corrupt(record, $"follows event {_sequences.GetValueOrDefault(record.Stream)}");
        string name = record.Stream.Value;
        if (name.StartsWith(MigrationSupervisor.StreamPrefix, StringComparison.Ordinal))
            Take(record, MigrationId.Parse(name[MigrationSupervisor.StreamPrefix.Length..]));
        else if (name.StartsWith(VmLedger.StreamPrefix, StringComparison.Ordinal))
            Take(record, VmName.Parse(name[VmLedger.StreamPrefix.Length..]));
        else if (name.StartsWith(BatchSupervisor.StreamPrefix, StringComparison.Ordinal))
            _batches[name[BatchSupervisor.StreamPrefix.Length..]] = BatchState.Apply(_batches.GetValueOrDefault(name[BatchSupervisor.StreamPrefix.Length..]), Decode(BatchEvents.Catalog, record))!;
        else if (name.StartsWith(HostLedger.StreamPrefix, StringComparison.Ordinal))
            _hosts[HostName.Parse(name[HostLedger.StreamPrefix.Length..])] = HostLedger.CordonOf(Decode(HostEvents.Catalog, record));
        else
            throw Corrupt(record, "belongs to no known kind of entity");
        _sequences[record.Stream] = record.Sequence;
        Position = record.Position;
        _changed.Add(record.Stream);
    }

    /// <summary>Puts what changed since the last call on the board. VMs before migrations: whoever sees a migration over sees its VM at its new home.</summary>
    public void PublishChanges(Board board, Action<HostName, Cordon?> cordon)
    {
        foreach (var (vm, state) in _vms.Where(e => _changed.Contains(VmLedger.StreamOf(e.Key))))
            board.Publish(state);
        foreach (var (id, state) in _migrations.Where(e => _changed.Contains(MigrationSupervisor.StreamOf(e.Key))))
        {
            if (state is KnownState known)
                board.Publish(known);
        }

        foreach (var plan in _claimed.Where(plan => !_migrations.ContainsKey(plan.Id)))
            board.Publish(new Planned(plan, plan.PlannedAt));
        _claimed.Clear();
        foreach (var (id, state) in _batches.Where(e => _changed.Contains(BatchSupervisor.StreamOf(e.Key))))
            board.Publish(state);
        foreach (var (host, cordoned) in _hosts.Where(e => _changed.Contains(HostLedger.StreamOf(e.Key))))
            cordon(host, cordoned);
        if (_changed.Count > 0)
            board.Touch();
        _changed.Clear();
    }

    private void Take(JournalRecord record, MigrationId id)
    {
        var (next, error) = Transitions.Apply(_migrations.GetValueOrDefault(id) ?? Unborn.Instance, Decode(EventCodec.Catalog, record));
        if (error is not null)
            throw new FabricException(error with { Message = $"Stream '{record.Stream}', event {record.Sequence}: {error.Message}" });
        _migrations[id] = next!;
    }

    /// <summary>A migration begins with its claim in the VM's stream; its own stream follows, and until then it is planned.</summary>
    private void Take(JournalRecord record, VmName vm)
    {
        var happened = Decode(VmEvents.Catalog, record);
        _vms[vm] = (_vms.GetValueOrDefault(vm) ?? VmState.None(vm)).Apply(happened);
        if (happened is MigrationClaimed claimed)
            _claimed.Add(claimed.Plan);
    }

    private static TEvent Decode<TEvent>(EventCatalog<TEvent> catalog, JournalRecord record)
        where TEvent : class
    {
        var (happened, error) = catalog.Decode(record.Kind, record.Version, record.Payload);
        return error is null ? happened! : throw new FabricException(error with { Message = $"Stream '{record.Stream}', event {record.Sequence}: {error.Message}" });
    }

    private static FabricException Corrupt(JournalRecord record, string what) =>
        new(ErrorCodes.Corrupt, $"Stream '{record.Stream}', event {record.Sequence} {what}.", "The data is kept as it is; restore the journal from a copy.");
}
