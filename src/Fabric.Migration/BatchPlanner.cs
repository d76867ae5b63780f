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
}

/// <summary>A migration under way or wanted.</summary>
public readonly record struct Movement(HostName Source, HostName Destination);

public static class BatchPlanner
{
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
                .Where(h => h.Name != source && Refusal(vm.Spec, h with { MemoryFreeBytes = free[h.Name] }) is null && avoided?.Contains(h.Name) != true)
                .OrderBy(h => site is null || h.Site == site ? 0 : 1).ThenByDescending(h => free[h.Name]).ThenBy(h => count[h.Name]).ThenBy(static h => h.Name.Value, StringComparer.Ordinal)
                .FirstOrDefault();
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

    /// <summary>Why <paramref name="host"/> cannot take the VM, or null. Also the check of a single migration.</summary>
    public static FabricError? Refusal(VmSpec spec, PlannerHost host)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(host);
        if (host.Cordoned)
            return new FabricError(ErrorCodes.RefusedBySafety, $"Host '{host.Name}' is cordoned.", $"fabric host uncordon {host.Name}");
        if (!host.Reachable)
            return new FabricError(ErrorCodes.Unreachable, $"Host '{host.Name}' does not answer.", $"Is its agent running? fabric host show {host.Name}");
        if (!host.Machines.Contains(spec.Machine))
        {
            return new FabricError(
                ErrorCodes.Incompatible, $"Host '{host.Name}' has no machines of kind '{Kind(spec.Machine)}', which VM '{spec.Name}' is.", "fabric doctor on that host says what it lacks.");
        }

        return host.MemoryFreeBytes < spec.MemoryBytes
            ? new FabricError(
                ErrorCodes.Exhausted,
                $"Host '{host.Name}' has {ByteSize.Format(host.MemoryFreeBytes)} of memory left and VM '{spec.Name}' needs {ByteSize.Format(spec.MemoryBytes)}.",
                "Choose another host, or move something away first.")
            : null;
    }

    /// <summary>Which of the waiting movements may start now, in their order. Indexes into <paramref name="waiting"/>.</summary>
    public static IReadOnlyList<int> Admit(IReadOnlyList<Movement> waiting, IReadOnlyList<Movement> running, BatchLimits limits)
    {
        ArgumentNullException.ThrowIfNull(waiting);
        ArgumentNullException.ThrowIfNull(running);
        ArgumentNullException.ThrowIfNull(limits);
        var now = running.ToList();
        var admitted = new List<int>();
        for (int i = 0; i < waiting.Count; i++)
        {
            var move = waiting[i];
            if (now.Count(m => m.Source == move.Source) >= limits.PerSource
                || now.Count(m => m.Destination == move.Destination) >= limits.PerDestination
                || now.Count(m => m == move) >= limits.PerLink)
            {
                continue;
            }

            now.Add(move);
            admitted.Add(i);
        }

        return admitted;
    }

    private static FabricError NoPlace(
        HostName source, VmSpec spec, IReadOnlyList<PlannerHost> hosts, Dictionary<HostName, long> free, IReadOnlySet<HostName>? avoided)
    {
        var others = hosts.Where(h => h.Name != source).ToList();
        if (others.Count == 0)
            return new FabricError(ErrorCodes.Exhausted, $"There is no other host than '{source}'.", "Add a host.");
        var reasons = others.Select(h => avoided?.Contains(h.Name) == true
            ? $"'{h.Name}' was tried and failed."
            : Refusal(spec, h with { MemoryFreeBytes = free[h.Name] })?.Message ?? "");
        return new FabricError(ErrorCodes.Exhausted, $"No host can take VM '{spec.Name}': {string.Join(' ', reasons)}", "Free memory elsewhere, or uncordon a host.");
    }

    private static string Kind(MachineKind kind) => kind == MachineKind.Qemu ? "qemu" : "synthetic";
}
