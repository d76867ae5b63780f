using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Routing;

/// <summary>What changes an entity: only the control node that holds its shard can do it. It refuses with not-held what it does not hold; then nothing was done.</summary>
public interface IShardCommands
{
    /// <summary>A host that is cordoned already keeps its first <paramref name="reason"/>.</summary>
    Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation);

    Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation);

    /// <summary><paramref name="force"/>: also when its host cannot be asked.</summary>
    Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation);

    /// <summary>Returns once the migration is journaled; it then goes on whether or not the caller stays.</summary>
    Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation);

    /// <summary>Refused (refused-by-safety, with the reason) once the run token may have left the source.</summary>
    Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation);

    /// <summary>
    /// Asks every host about the VM and makes the journal say what is true; a refusal is an outcome, not an exception, since what the hosts said goes with it. Agents are told nothing.
    /// </summary>
    Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation);

    Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation);
}
