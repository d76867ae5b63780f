using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Vms;

namespace Fabric.Supervisor.Migrations;

/// <summary>What is refused before a migration begins. Each refusal names the value and what to do.</summary>
internal static class MigrationRules
{
    /// <summary>Why this VM cannot be moved to this host now, or null.</summary>
    public static FabricError? Refusal(ControlServices services, VmState vm, VmName name, HostName destination) =>
        Obstacle(services, vm, name) ?? Unfit(services, vm, destination);

    /// <summary>What keeps the VM where it is, whatever the destination.</summary>
    public static FabricError? Obstacle(ControlServices services, VmState? vm, VmName name)
    {
        switch (vm)
        {
            case null or { Status: VmStatus.Absent }:
                return new FabricError(ErrorCodes.NotFound, $"There is no VM '{name}'.", "fabric vm list");
            case { Status: VmStatus.Creating or VmStatus.Deleting }:
                return new FabricError(ErrorCodes.Conflict, $"VM '{name}' is being {(vm.Status == VmStatus.Creating ? "created" : "deleted")}.", $"fabric vm show {name}");
            case { Status: VmStatus.Lost }:
                return new FabricError(ErrorCodes.Lost, $"VM '{name}' is lost: there is nothing to move.", $"fabric vm delete {name} --force");
            case { Active: { } active }:
                return new FabricError(
                    ErrorCodes.Conflict, $"VM '{name}' is being migrated from '{active.Source}' to '{active.Destination}' ({active.Id}).", $"Wait for it: fabric migration watch {active.Id}");
            default:
                break;
        }

        var owner = vm.Owner!.Value;
        var level = services.Board.Host(owner);
        if (!level.Current)
            return new FabricError(ErrorCodes.Unreachable, $"Host '{owner}', where VM '{name}' runs, does not answer.", $"fabric host show {owner}");
        return level.Vm(name) switch
        {
            { Owner: true, State: VmRunState.Running } => null,
            { } other => new FabricError(ErrorCodes.Conflict, $"VM '{name}' does not run at '{owner}': it is {Word(other.State)}.", $"fabric vm show {name}"),
            null => new FabricError(ErrorCodes.Conflict, $"The agent of '{owner}' does not know VM '{name}'.", $"fabric vm show {name}"),
        };
    }

    private static FabricError? Unfit(ControlServices services, VmState vm, HostName destination)
    {
        if (vm.Owner == destination)
            return new FabricError(ErrorCodes.InvalidArgument, $"VM '{vm.Name}' runs at '{destination}' already.", "Choose another destination: fabric host list");
        return services.Hosts.Find(destination) is null
            ? services.Board.UnknownHost(destination)
            : BatchPlanner.Refusal(vm.Spec!, AsDestination(services, destination));
    }

    public static PlannerHost AsDestination(ControlServices services, HostName host) => AsDestination(services, host, services.Board.Host(host));

    /// <summary>By one reading of what the host says.</summary>
    public static PlannerHost AsDestination(ControlServices services, HostName host, HostLevel level)
    {
        var known = services.Hosts.Find(host)?.Registration;
        return new PlannerHost(
            host, services.Hosts.IsCordoned(host), known is not null && level.Current, level.Facts?.MemoryFreeBytes ?? 0, level.Facts?.Vms.Count ?? 0, known?.Machines ?? [],
            known?.Site);
    }

    private static string Word(VmRunState state) => state switch
    {
        VmRunState.Starting => "starting",
        VmRunState.Running => "running without the right to",
        VmRunState.Paused => "paused",
        VmRunState.Incoming => "incoming",
        _ => "ended",
    };
}
