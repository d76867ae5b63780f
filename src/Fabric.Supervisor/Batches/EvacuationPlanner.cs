using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Batches;

/// <summary>
/// Plans evacuations one after the other, each with what the others already mean to bring to a host: hosts that are emptied together would otherwise all choose the
/// same few destinations, wait for each other there, and find the memory gone. Any thread.
/// </summary>
internal sealed class EvacuationPlanner(ControlServices services)
{
    private readonly Lock _gate = new();
    private readonly List<BatchPlan> _begun = []; // under _gate; planned and not yet on the board

    public BatchPlan Plan(EvacuateRequest request)
    {
        var limits = services.Options.Limits;
        if (request.Parallel is { } parallel)
            limits = limits with { PerSource = parallel };
        // Also what is on its way to the host: it arrives, and is moved on. What is on its way from it counts as moved when it is gone.
        var vms = services.Board.Vms
            .Where(vm => vm.Status is not VmStatus.Absent && (vm.Owner == request.Host || vm.Active?.Destination == request.Host))
            .OrderBy(static vm => vm.Name.Value, StringComparer.Ordinal)
            .Select(vm => new PlannerVm(vm.Spec!, vm.Active is null ? MigrationRules.Obstacle(services, vm, vm.Name) : null))
            .ToList();
        string id = services.Ids.NewMigration().ToString();
        lock (_gate)
        {
            var placements = BatchPlanner.Place(request.Host, vms, Destinations(services, _begun));
            var plan = new BatchPlan(id, request.Host, placements, request.Options, limits, services.Now, request.RequestId);
            if (!request.DryRun)
                _begun.Add(plan);
            return plan;
        }
    }

    /// <summary>The plan is on the board, or nothing came of it.</summary>
    public void Done(BatchPlan plan)
    {
        lock (_gate)
            _begun.Remove(plan);
    }

    /// <summary>Every host as a destination, less what batches will bring there: <paramref name="begun"/> and those that run.</summary>
    public static List<PlannerHost> Destinations(ControlServices services, IReadOnlyList<BatchPlan> begun)
    {
        var coming = new Dictionary<HostName, (long Bytes, int Vms)>();
        foreach (var plan in begun.Where(plan => services.Board.Batch(plan.Id) is null))
        {
            foreach (var placement in plan.Placements)
                Bring(placement.Vm, placement.Destination);
        }

        foreach (var batch in services.Board.Batches.Where(static batch => batch.EndedAt is null))
        {
            foreach (var item in batch.Items.Where(static item => !item.Over))
                Bring(item.Vm, item.Destination);
        }

        return [.. services.Hosts.All.Select(host =>
        {
            var destination = MigrationRules.AsDestination(services, host.Registration.Name);
            var (bytes, vms) = coming.GetValueOrDefault(destination.Name);
            return destination with { MemoryFreeBytes = Math.Max(0, destination.MemoryFreeBytes - bytes), Vms = destination.Vms + vms };
        })];

        void Bring(VmName vm, HostName? destination)
        {
            // What its facts show already is in its free memory.
            if (destination is not { } host || services.Board.Host(host).Vm(vm) is not null)
                return;
            ref var sum = ref CollectionsMarshal.GetValueRefOrAddDefault(coming, host, out _);
            sum = (sum.Bytes + (services.Board.Vm(vm)?.Spec?.MemoryBytes ?? 0), sum.Vms + 1);
        }
    }
}
