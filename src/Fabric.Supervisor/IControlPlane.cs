using Fabric.Core;
using Fabric.Supervisor.Routing;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;

namespace Fabric.Supervisor;

/// <summary>
/// What the operators' API asks of a control node. Refusals are <see cref="FabricException"/>s whose code says which rule refused
/// (not-found, already-exists, invalid-argument, conflict, refused-by-safety, unreachable, …). Ids may be given by unique prefix.
/// </summary>
public interface IControlPlane : IShardCommands
{
    Task RegisterHostAsync(HostRegistration registration, CancellationToken cancellation);

    Task<IReadOnlyList<HostReport>> ListHostsAsync(CancellationToken cancellation);

    Task<IReadOnlyList<VmReport>> ListVmsAsync(CancellationToken cancellation);

    /// <summary>One host with its <see cref="HostReport.Details"/>.</summary>
    Task<HostReport> GetHostAsync(HostName host, CancellationToken cancellation);

    Task<ConsoleChunk> ReadConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation);

    Task<IReadOnlyList<MigrationReport>> ListMigrationsAsync(CancellationToken cancellation);

    Task<MigrationReport> GetMigrationAsync(string idOrPrefix, CancellationToken cancellation);

    Task<EvacuationReport> GetEvacuationAsync(string id, CancellationToken cancellation);

    Task<IReadOnlyList<EvacuationReport>> ListEvacuationsAsync(CancellationToken cancellation);

    /// <summary>Every event of one migration, in order, as the journal has it.</summary>
    Task<IReadOnlyList<EventReport>> MigrationLogAsync(string idOrPrefix, CancellationToken cancellation);

    /// <summary>Events of all shards after a cursor ("" begins with the oldest, "now" with the next), in each shard's order; at most <paramref name="most"/>.</summary>
    Task<EventPage> EventsAsync(string cursor, int most, CancellationToken cancellation);

    Task<IReadOnlyList<ShardReport>> ListShardsAsync(CancellationToken cancellation);

    Task<IReadOnlyList<NodeReport>> ListNodesAsync(CancellationToken cancellation);

    /// <summary>Completes at the next change of any migration, evacuation, host or VM, or when <paramref name="wait"/> has passed (for watch and --wait).</summary>
    Task<long> WaitChangeAsync(long after, TimeSpan wait, CancellationToken cancellation);
}
