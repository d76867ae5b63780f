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
    /// <remarks>
    /// Everything is read once, batches before hosts, while others publish: what a host's one reading does not show yet is brought, what it shows is in its free memory.
    /// Of two readings the earlier may lack the VM and the later the memory, and it would count twice.
    /// </remarks>
    public static List<PlannerHost> Destinations(ControlServices services, IReadOnlyList<BatchPlan> begun)
    {
        var batches = services.Board.Batches.ToDictionary(static batch => batch.Plan.Id, StringComparer.Ordinal);
        var brought = begun.Where(plan => !batches.ContainsKey(plan.Id))
            .SelectMany(static plan => plan.Placements.Select(static placement => (placement.Vm, placement.Destination)))
            .Concat(batches.Values.Where(static batch => batch.EndedAt is null)
                .SelectMany(static batch => batch.Items.Where(static item => !item.Over).Select(static item => (item.Vm, item.Destination))))
            .ToLookup(static item => item.Destination, static item => item.Vm);
        return [.. services.Hosts.All.Select(host => LessWhatComes(services, host.Registration.Name, brought[host.Registration.Name]))];
    }

    private static PlannerHost LessWhatComes(ControlServices services, HostName host, IEnumerable<VmName> brought)
    {
        var level = services.Board.Host(host);
        var destination = MigrationRules.AsDestination(services, host, level);
        foreach (var vm in brought.Where(vm => level.Vm(vm) is null))
        {
            long free = Math.Max(0, destination.MemoryFreeBytes - (services.Board.Vm(vm)?.Spec?.MemoryBytes ?? 0));
            destination = destination with { MemoryFreeBytes = free, Vms = destination.Vms + 1 };
        }

        return destination;
    }
}
