using System.Globalization;
using Fabric.Core;
using Fabric.Machines.Synthetic;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Scale;

/// <summary>What must be true at the end: asked of the machines themselves and of the agents, then compared with what the control node says.</summary>
internal static class ScaleChecks
{
    private const double MostRss = 4.0 * ByteSize.Gibi;
    private const double MostP99Ms = 50;

    internal static IEnumerable<Bar> Performance(ScaleOptions options, ScaleResult r)
    {
        yield return new Bar("migrations at once", Number(options.Concurrent), Number(r.PeakConcurrent), r.PeakConcurrent >= options.Concurrent);
        yield return new Bar("memory of the process", "≤ 4096 MiB", string.Create(CultureInfo.InvariantCulture, $"{r.PeakRss / 1048576.0:0} MiB"), r.PeakRss <= MostRss);
        yield return new Bar(
            "decisions, p99", "≤ 50 ms", string.Create(CultureInfo.InvariantCulture, $"{r.Decisions.P99Ms:0.0} ms of {r.Decisions.Count}"), r.Decisions.P99Ms <= MostP99Ms && r.Decisions.Count > 0);
        yield return new Bar("migrations completed", Number(r.Migrations), Number(r.Completed), r.Completed == r.Migrations && r.Migrations >= options.Concurrent);
    }

    internal static async Task<IReadOnlyList<Bar>> PlacesAsync(
        ScaleOptions options, IReadOnlyList<ScaleHost> hosts, IControlPlane plane, IReadOnlyList<MigrationReport> migrations, IReadOnlyList<EvacuationReport> evacuations, CancellationToken cancellation)
    {
        var machines = new Dictionary<VmName, List<(HostName Host, SyntheticMachine Machine)>>();
        var owners = new Dictionary<VmName, List<HostName>>();
        foreach (var host in hosts)
        {
            foreach (var machine in host.Machines)
                At(machines, machine.Spec.Name).Add((host.Name, machine));
            var facts = await host.Agent.FactsAsync(-1, TimeSpan.Zero, cancellation);
            foreach (var vm in facts.Vms.Where(static vm => vm is { Owner: true, State: VmRunState.Running }))
                At(owners, vm.Name).Add(host.Name);
        }

        var books = (await plane.ListVmsAsync(cancellation)).ToDictionary(static vm => vm.Name);
        int once = machines.Count(entry => entry.Value is [var only] && owners.GetValueOrDefault(entry.Key) is [var owner] && owner == only.Host && books.GetValueOrDefault(entry.Key)?.Host == owner);
        int running = books.Values.Count(static vm => vm is { State: "running", Migration: null });
        var emptied = evacuations.Select(static e => e.Host).ToHashSet();
        int left = machines.Values.SelectMany(static at => at).Count(at => emptied.Contains(at.Host));
        int wrong = 0;
        foreach (var (_, machine) in machines.Values.SelectMany(static at => at))
        {
            machine.Step(ScaleHost.Operations);
            await machine.StopAsync(cancellation);
            if (machine.Errors > 0 || machine.CountWrongPages() > 0)
                wrong++;
        }

        var moved = migrations.Where(static m => m.State == "completed").Select(static m => m.Vm).ToHashSet();
        return
        [
            new Bar("evacuations done", Number(options.Evacuated), Number(evacuations.Count(static e => e.State == "done")), evacuations.Count == options.Evacuated && evacuations.All(static e => e.State == "done")),
            new Bar("VMs with one machine, at the host that its agent and the books say", Number(options.Vms), Number(once), once == options.Vms && machines.Count == options.Vms),
            new Bar("VMs that the control node shows running", Number(options.Vms), Number(running), running == options.Vms),
            new Bar("machines left at emptied hosts", "0", Number(left), left == 0),
            new Bar($"guests with a wrong page (of them {Number(moved.Count)} moved)", "0", Number(wrong), wrong == 0),
        ];
    }

    private static List<T> At<T>(Dictionary<VmName, List<T>> map, VmName vm) => map.TryGetValue(vm, out var known) ? known : map[vm] = [];

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
}
