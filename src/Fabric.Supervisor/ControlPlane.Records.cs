using System.Globalization;
using System.Text.Json;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;
using Fabric.Wire.Api;

namespace Fabric.Supervisor;

/// <summary>What was decided, by whom and when: read from the journal itself, by any node.</summary>
public sealed partial class ControlPlane
{
    private const int RecordsPerRead = 256;

    public async Task<IReadOnlyList<EventReport>> MigrationLogAsync(string idOrPrefix, CancellationToken cancellation)
    {
        var plan = FindMigration(idOrPrefix).Plan;
        var (stream, shard) = (MigrationSupervisor.StreamOf(plan.Id), _map.Of("vm/" + plan.Vm));
        var events = new List<EventReport>();
        IReadOnlyList<JournalRecord> records;
        do
        {
            records = await _services.Journal.ReadAsync(stream, events.Count, RecordsPerRead, cancellation);
            events.AddRange(records.Select(record => Report(record, shard)));
        }
        while (records.Count == RecordsPerRead);
        return events;
    }

    public async Task<EventPage> EventsAsync(string cursor, int most, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(cursor);
        if (most is < 1 or > JournalRules.RecordsPerRead)
            throw new FabricException(ErrorCodes.InvalidArgument, $"{most} events cannot be read at once.", $"Ask for 1 to {JournalRules.RecordsPerRead}.");
        long[] positions = cursor == "now" ? await EndsAsync(cancellation) : Parse(cursor);
        var events = new List<EventReport>();
        foreach (var shard in _map.All.TakeWhile(_ => events.Count < most))
        {
            var records = await _services.Journal.ReadShardAsync(shard, positions[shard.Value], most - events.Count, cancellation);
            events.AddRange(records.Select(record => Report(record, shard)));
            positions[shard.Value] += records.Count;
        }

        // Shards have no common order; by time they read as one story.
        return new EventPage([.. events.OrderBy(static e => e.At)], string.Join('.', positions.Select(static p => p.ToString(CultureInfo.InvariantCulture))));
    }

    /// <summary>From the store, which alone knows of all shards; while it cannot be asked, as far as this node knows.</summary>
    public async Task<IReadOnlyList<ShardReport>> ListShardsAsync(CancellationToken cancellation)
    {
        var view = Volatile.Read(ref _members)?.View;
        Dictionary<ShardId, ShardStanding>? standings = null;
        try
        {
            standings = (await _services.Journal.ListShardsAsync(cancellation)).ToDictionary(static standing => standing.Shard);
        }
        catch (FabricException unheard) when (unheard.Error.Code == ErrorCodes.StoreFailed)
        {
            // An operator looks at the shards above all when the database is away.
        }

        return [.. _map.All.Select(shard => Report(shard, view, standings?.GetValueOrDefault(shard)))];
    }

    /// <summary>By this node's own clock, without asking anybody.</summary>
    internal bool Holds(ShardId shard) => _leases.Find(shard) is not null;

    public Task<IReadOnlyList<NodeReport>> ListNodesAsync(CancellationToken cancellation)
    {
        var view = Volatile.Read(ref _members)?.View;
        return Task.FromResult<IReadOnlyList<NodeReport>>(view is null ? [] : [.. view.Members.Select(m => new NodeReport(
            m.Name, m.Node, m.State.ToString().ToLowerInvariant(), m.ClusterUrl, m.ApiUrl, m.Since, view.Suspicions.Count(s => s.Node == m.Node)))]);
    }

    private async Task<long[]> EndsAsync(CancellationToken cancellation)
    {
        long[] ends = new long[_map.Count];
        foreach (var standing in (await _services.Journal.ListShardsAsync(cancellation)).Where(standing => standing.Shard.Value < ends.Length))
            ends[standing.Shard.Value] = standing.Position;
        return ends;
    }

    private long[] Parse(string cursor)
    {
        if (cursor.Length == 0)
            return new long[_map.Count];
        string[] parts = cursor.Split('.');
        long[] positions = new long[_map.Count];
        if (parts.Length != _map.Count)
            throw Wrong(cursor);
        for (int i = 0; i < parts.Length; i++)
        {
            if (!long.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out positions[i]))
                throw Wrong(cursor);
        }

        return positions;

        static FabricException Wrong(string cursor) => new(ErrorCodes.InvalidArgument, $"'{Label.Shorten(cursor)}' is no cursor of this cluster's events.", "Use the one of the last answer, or none to begin.");
    }

    private ShardReport Report(ShardId shard, ClusterView? view, ShardStanding? standing)
    {
        var tenure = _leases.Find(shard);
        var placed = view is null ? null : ShardPlacement.Of(view, shard);
        var holder = standing is { IsLeased: true, Holder: { } held } && Guid.TryParse(held, out var id) ? view?.Find(id) : null;
        string state = tenure is not null || holder is not null ? "held" : view is not null && placed is null ? "homeless" : placed is null || placed.Node == _members?.Node ? "waiting" : "placed";
        return new ShardReport(
            shard.Value, (holder ?? placed)?.Name, (holder ?? placed)?.Node, state, standing?.Epoch ?? tenure?.Epoch, standing?.Position,
            _services.Board.Vms.Count(vm => vm.Status != Vms.VmStatus.Absent && _map.Of("vm/" + vm.Name) == shard),
            _services.Board.Migrations.OfType<ActiveState>().Count(m => _map.Of("vm/" + m.Plan.Vm) == shard));
    }

    private EventReport Report(JournalRecord record, ShardId shard)
    {
        using var data = JsonDocument.Parse(record.Payload);
        string by = Guid.TryParse(record.Holder, out var node) && Volatile.Read(ref _members)?.View.Find(node) is { } member ? member.Name : record.Holder;
        return new EventReport(shard.Value, record.Position, record.Stream.Value, record.Sequence, record.AppendedAt, record.Kind, record.Epoch, by, data.RootElement.Clone());
    }
}
