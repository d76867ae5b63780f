using Fabric.Core;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;

namespace Fabric.Supervisor;

/// <summary>
/// What the operators' API asks of a control node. Refusals are <see cref="FabricException"/>s whose code says which rule refused
/// (not-found, already-exists, invalid-argument, conflict, refused-by-safety, unreachable, …). Ids may be given by unique prefix.
/// </summary>
public interface IControlPlane
{
    Task RegisterHostAsync(HostRegistration registration, CancellationToken cancellation);

    Task<IReadOnlyList<HostReport>> ListHostsAsync(CancellationToken cancellation);

    Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, CancellationToken cancellation);

    Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation);

    Task<IReadOnlyList<VmReport>> ListVmsAsync(CancellationToken cancellation);

    /// <summary><paramref name="force"/>: also when its host cannot be asked.</summary>
    Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation);

    Task<ConsoleChunk> ReadConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation);

    /// <summary>Returns once the migration is journaled; it then goes on whether or not the caller stays.</summary>
    Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation);

    Task<IReadOnlyList<MigrationReport>> ListMigrationsAsync(CancellationToken cancellation);

    Task<MigrationReport> GetMigrationAsync(string idOrPrefix, CancellationToken cancellation);

    /// <summary>Refused (refused-by-safety, with the reason) once the run token may have left the source.</summary>
    Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation);

    Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation);

    Task<EvacuationReport> GetEvacuationAsync(string id, CancellationToken cancellation);

    Task<IReadOnlyList<EvacuationReport>> ListEvacuationsAsync(CancellationToken cancellation);

    /// <summary>Completes at the next change of any migration, evacuation, host or VM, or when <paramref name="wait"/> has passed (for watch and --wait).</summary>
    Task<long> WaitChangeAsync(long after, TimeSpan wait, CancellationToken cancellation);
}
