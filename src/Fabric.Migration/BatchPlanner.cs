// Where the VMs of an evacuated host go, and which of them may move now. Pure.
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>A possible destination. <paramref name="MemoryFreeBytes"/> as its agent says, before this batch. <paramref name="Site"/>: null when it was given none.</summary>
public sealed record PlannerHost(HostName Name, bool Cordoned, bool Reachable, long MemoryFreeBytes, int Vms, IReadOnlyList<MachineKind> Machines, SiteName? Site = null);

/// <summary><paramref name="Obstacle"/>: why it cannot move whatever the destination, or null.</summary>
public sealed record PlannerVm(VmSpec Spec, FabricError? Obstacle);

/// <summary>Either a destination or the reason why the VM stays.</summary>
public sealed record Placement(VmName Vm, HostName? Destination, FabricError? Why);

/// <summary>Migrations at once. A link is an ordered pair of hosts.</summary>
public sealed record BatchLimits(int PerSource, int PerDestination, int PerLink)
{
    public static BatchLimits Default { get; } = new(2, 2, 2);

    /// <summary>Whether one more may begin where so many run with the same source, with the same destination, and with both.</summary>
    public bool Admit(int from, int to, int link) => from < PerSource && to < PerDestination && link < PerLink;
}

/// <summary>A migration under way or wanted.</summary>
public readonly record struct Movement(HostName Source, HostName Destination);

public static class BatchPlanner
{
    /// <summary>Hosts that say why they cannot take a VM: this goes into an event, for every VM that stays, and a data centre has thousands.</summary>
    public const int HostsNamed = 8;

    /// <summary>
    /// Largest VM first, each to a host of the source's own site if one can take it, among these to the one that then has most memory left (worst fit, which spreads), ties to
    /// fewer VMs, then by name. What finds no place stays, with the reason. The source's site is that of its row in <paramref name="hosts"/>; without one no site is preferred.
    /// The answer is in the order of <paramref name="vms"/>. <paramref name="avoid"/>: destinations that already failed for a VM.
    /// </summary>
    public static IReadOnlyList<Placement> Place(
        HostName source, IReadOnlyList<PlannerVm> vms, IReadOnlyList<PlannerHost> hosts, IReadOnlyDictionary<VmName, IReadOnlySet<HostName>>? avoid = null)
    {
        ArgumentNullException.ThrowIfNull(vms);
        ArgumentNullException.ThrowIfNull(hosts);
        var free = hosts.ToDictionary(static h => h.Name, static h => h.MemoryFreeBytes);
        var count = hosts.ToDictionary(static h => h.Name, static h => h.Vms);
        var site = hosts.FirstOrDefault(h => h.Name == source)?.Site;
        var placed = new Dictionary<VmName, Placement>();
        foreach (var vm in vms.OrderByDescending(static v => v.Spec.MemoryBytes).ThenBy(static v => v.Spec.Name.Value, StringComparer.Ordinal))
        {
            if (vm.Obstacle is not null)
            {
                placed[vm.Spec.Name] = new Placement(vm.Spec.Name, null, vm.Obstacle);
                continue;
            }

            var avoided = avoid?.GetValueOrDefault(vm.Spec.Name);
            var best = hosts
                .Where(h => h.Name != source && Takes(vm.Spec, h, free[h.Name]) && avoided?.Contains(h.Name) != true)
                .MinBy(h => (site is null || h.Site == site ? 0 : 1, -free[h.Name], count[h.Name], h.Name.Value), WorstFit);
            if (best is null)
            {
                placed[vm.Spec.Name] = new Placement(vm.Spec.Name, null, NoPlace(source, vm.Spec, hosts, free, avoided));
                continue;
            }

            free[best.Name] -= vm.Spec.MemoryBytes;
            count[best.Name]++;
            placed[vm.Spec.Name] = new Placement(vm.Spec.Name, best.Name, null);
        }

        return [.. vms.Select(vm => placed[vm.Spec.Name])];
    }

    private static readonly Comparer<(int Away, long Taken, int Vms, string Name)> WorstFit = Comparer<(int Away, long Taken, int Vms, string Name)>.Create(static (one, other) =>
        (one.Away, one.Taken, one.Vms).CompareTo((other.Away, other.Taken, other.Vms)) is var order and not 0 ? order : string.CompareOrdinal(one.Name, other.Name));

    private static bool Takes(VmSpec spec, PlannerHost host, long free) => !host.Cordoned && host.Reachable && host.Machines.Contains(spec.Machine) && free >= spec.MemoryBytes;

    /// <summary>Why <paramref name="host"/> cannot take the VM, or null. Also the check of a single migration.</summary>
    public static FabricError? Refusal(VmSpec spec, PlannerHost host)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(host);
        if (Takes(spec, host, host.MemoryFreeBytes))
            return null;
        if (host.Cordoned)
            return new FabricError(ErrorCodes.RefusedBySafety, $"Host '{host.Name}' is cordoned.", $"fabric host uncordon {host.Name}");
        if (!host.Reachable)
            return new FabricError(ErrorCodes.Unreachable, $"Host '{host.Name}' does not answer.", $"Is its agent running? fabric host show {host.Name}");
        if (!host.Machines.Contains(spec.Machine))
        {
            return new FabricError(
                ErrorCodes.Incompatible, $"Host '{host.Name}' has no machines of kind '{Kind(spec.Machine)}', which VM '{spec.Name}' is.", "fabric doctor on that host says what it lacks.");
        }

        return new FabricError(
            ErrorCodes.Exhausted,
            $"Host '{host.Name}' has {ByteSize.Format(host.MemoryFreeBytes)} of memory left and VM '{spec.Name}' needs {ByteSize.Format(spec.MemoryBytes)}.",
            "Choose another host, or move something away first.");
    }

    private static FabricError NoPlace(
        HostName source, VmSpec spec, IReadOnlyList<PlannerHost> hosts, Dictionary<HostName, long> free, IReadOnlySet<HostName>? avoided)
    {
        var others = hosts.Where(h => h.Name != source).ToList();
        if (others.Count == 0)
            return new FabricError(ErrorCodes.Exhausted, $"There is no other host than '{source}'.", "Add a host.");
        var reasons = others.Take(HostsNamed).Select(h => avoided?.Contains(h.Name) == true
            ? $"'{h.Name}' was tried and failed."
            : Refusal(spec, h with { MemoryFreeBytes = free[h.Name] })?.Message ?? "");
        string more = others.Count > HostsNamed ? $" Nor can {others.Count - HostsNamed} others." : "";
        return new FabricError(ErrorCodes.Exhausted, $"No host can take VM '{spec.Name}': {string.Join(' ', reasons)}{more}", "Free memory elsewhere, or uncordon a host.");
    }

    private static string Kind(MachineKind kind) => kind == MachineKind.Qemu ? "qemu" : "synthetic";
}
