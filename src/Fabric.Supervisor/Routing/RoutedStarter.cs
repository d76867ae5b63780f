using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Routing;

/// <summary>Starts the migrations of a batch wherever the VMs' shards are held. One that another node journaled is returned when this node has read it.</summary>
internal sealed class RoutedStarter(IShardCommands everywhere, Board board, TimeProvider time) : IMigrationStarter
{
    /// <summary>How long this node may need to read what another has journaled.</summary>
    private static readonly TimeSpan ReadDeadline = TimeSpan.FromSeconds(10);

    public async Task<KnownState> StartAsync(VmName vm, HostName destination, MigrationOptions options, Guid requestId, BatchMembership batch, CancellationToken cancellation)
    {
        var report = await everywhere.MigrateAsync(new MigrateRequest(vm, destination, options, requestId, batch.Id, batch.Limits), cancellation);
        return await SeeAsync(report.Id, cancellation);
    }

    public Task SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) => everywhere.SetCordonedAsync(host, cordoned, reason, cancellation);

    private async Task<KnownState> SeeAsync(MigrationId id, CancellationToken cancellation)
    {
        long began = time.GetTimestamp();
        while (true)
        {
            long version = board.Version;
            if (board.Migration(id) is { } known)
                return known;
            var left = ReadDeadline - time.GetElapsedTime(began);
            if (left <= TimeSpan.Zero)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"Migration {id} was started by another control node and has not been read here within {ReadDeadline.TotalSeconds:0} s.");
            await board.WaitAsync(version, left, cancellation);
        }
    }
}
