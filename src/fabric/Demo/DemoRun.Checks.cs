using Fabric.Cli.Client;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Cli.Demo;

/// <summary>What the demo promises, checked from outside: guests by their own words, processes by the kernel.</summary>
internal sealed partial class DemoRun
{
    private const int LeastMigrations = 8;

    private async Task<(IReadOnlyList<DemoMigration>, IReadOnlyList<DemoGuestResult>)> JudgeAsync(
        LocalCluster cluster, ControlClient client, GuestConsoles consoles, CancellationToken cancellation)
    {
        if (HasConsoles)
            await Task.WhenAll(DemoPlan.Guests.Select(g => SweptAsync(consoles, g, cancellation)));
        else
            await CheckSyntheticAsync(client, cancellation);
        var vms = await client.VmsAsync(cancellation);
        var hosts = await client.HostsAsync(cancellation);
        var migrations = _state.Moves.Select(m => WithGuestView(consoles, m)).ToList();
        var guests = DemoPlan.Guests.Select(g => Guest(consoles, g, vms.FirstOrDefault(v => v.Name == g.Name))).ToList();
        CheckMigrations(migrations);
        CheckGuests(guests);
        var evacuated = hosts.FirstOrDefault(h => h.Name == DemoPlan.Evacuated);
        _state.Check($"host {DemoPlan.Evacuated} is empty", evacuated is { Vms.Count: 0 }, evacuated is null ? "unknown host" : evacuated.Vms.Count == 0 ? "no VM is there" : string.Join(", ", evacuated.Vms));
        CheckPlaces(cluster, vms, hosts);
        return (migrations, guests);
    }

    /// <summary>After the last move: the checker inside has looked at all of its memory once more, and the stop can be measured.</summary>
    private static async Task SweptAsync(GuestConsoles consoles, DemoGuest guest, CancellationToken cancellation)
    {
        var (oks, now) = consoles.Look(guest.Name, log => (log.OkCount, log.Beats[^1].GuestMs));
        if (guest.Workload != "idle")
            await consoles.WaitAsync(guest.Name, log => log.OkCount >= oks + 2 || !log.IsClean, "check its memory after the last move", SpeakWithin, cancellation);
        await consoles.WaitAsync(guest.Name, log => log.Beats[^1].GuestMs >= now + QuietGuestMs, "go on after the last move", SpeakWithin, cancellation);
    }

    /// <summary>A synthetic guest says once a tick how many of its reads found something else than was written: it must go on, and that must be none.</summary>
    private async Task CheckSyntheticAsync(ControlClient client, CancellationToken cancellation)
    {
        foreach (var guest in DemoPlan.Guests)
        {
            using var deadline = new CancellationTokenSource(SpeakWithin, _context.Time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            var reader = new ConsoleReader(client, guest.Name);
            SyntheticTick? first = null;
            SyntheticTick? last = null;
            try
            {
                while (first is null || last is null || last.Value.Number <= first.Value.Number)
                {
                    last = SyntheticTick.LastIn(await reader.ReadAsync(either.Token)) ?? last;
                    first ??= last;
                    await Task.Delay(TimeSpan.FromMilliseconds(100), _context.Time, either.Token);
                }
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                // It stands still: the check below says so.
            }

            bool alive = last?.Number > first?.Number;
            _state.Check(
                $"guest {guest.Name} found no error", alive && last?.Errors == 0, alive ? $"tick {last?.Number}, {last?.Operations} operations, {last?.Errors} errors" : "it does not go on");
        }
    }

    private static DemoMigration WithGuestView(GuestConsoles consoles, MoveRecord move)
    {
        var seen = move is { FromGuestMs: { } from, ToGuestMs: { } to } ? consoles.Look(move.Report.Vm, log => log.DowntimeBetween(from, to)) : null;
        return new DemoMigration(move.Report, seen?.StoppedMs, seen?.UncertaintyMs, seen?.LargestGapMs);
    }

    private static DemoGuestResult Guest(GuestConsoles consoles, DemoGuest guest, VmReport? vm) => consoles.Look(guest.Name, log => new DemoGuestResult(
        guest.Name, guest.Workload, vm?.Host, vm?.ProcessId, log.IsClean, log.Beats.Count, log.SequenceBreaks, log.Beats.Count > 0 ? log.Beats[^1].Errors : 0, log.OkCount, [.. log.ErrorLines]));

    private void CheckMigrations(List<DemoMigration> migrations)
    {
        int verified = migrations.Count(m => m.Report.Verified == true);
        int full = migrations.Count(m => m.Report is { Verified: true, Verify: VerifyLevel.Full });
        int completed = migrations.Count(m => m.Report.State == MigrationStates.Completed);
        _state.Check("migrations", completed == migrations.Count && completed >= LeastMigrations, $"{completed} of {migrations.Count} completed, at least {LeastMigrations} are required");
        _state.Check("verified", verified == migrations.Count, $"{verified} of {migrations.Count}");
        _state.Check("verified in full", 2 * full >= migrations.Count, $"{full} of {migrations.Count}, at least half are required");
        var single = migrations.Where(m => m.Report.Batch is null).Select(m => m.Report.Mode).ToHashSet();
        MigrationMode[] modes = [MigrationMode.PreCopy, MigrationMode.PostCopy, MigrationMode.Hybrid];
        _state.Check("modes", modes.All(single.Contains), string.Join(", ", single.Select(Output.Words.Name)));
    }

    private void CheckGuests(List<DemoGuestResult> guests)
    {
        if (!HasConsoles)
            return;
        foreach (var guest in guests)
        {
            bool swept = guest.Workload == "idle" || guest.OkCount > 0;
            string said = guest.ErrorLines.Count > 0 ? guest.ErrorLines[0] : $"{guest.Beats} beats, {guest.OkCount} memory sweeps, {guest.Errors} errors";
            _state.Check($"guest {guest.Name} found no error", guest.Clean && swept, said);
        }
    }

    /// <summary>By the API each VM is on one host; by the kernel there is one QEMU process for it and no other.</summary>
    private void CheckPlaces(LocalCluster cluster, IReadOnlyList<VmReport> vms, IReadOnlyList<HostReport> hosts)
    {
        foreach (var guest in DemoPlan.Guests)
        {
            int places = hosts.Count(h => h.Vms.Contains(guest.Name));
            var vm = vms.FirstOrDefault(v => v.Name == guest.Name);
            _state.Check($"{guest.Name} runs in one place", places == 1 && vm?.State == "running", $"{vm?.State ?? "unknown"} on {vm?.Host?.Value ?? "no host"}, {places} hosts claim it");
        }

        if (options.Machine != MachineKind.Qemu)
            return;
        var processes = LeftOvers.Machines(cluster.Directory, cluster.Record.MemoryDirectory, cluster.Record.MemoryPrefix).Select(p => p.ProcessId).ToHashSet();
        var reported = vms.Select(v => v.ProcessId).OfType<int>().ToHashSet();
        bool same = processes.SetEquals(reported) && processes.Count == DemoPlan.Guests.Count;
        _state.Check("one QEMU process for each VM", same, $"the kernel knows {Listed(processes)}, the agents report {Listed(reported)}");

        static string Listed(IEnumerable<int> pids) => string.Join(", ", pids.Order());
    }

    private async Task CleanUpAsync(LocalCluster cluster)
    {
        _context.Say("demo: taking everything down");
        var left = (await cluster.DownAsync(_ => { }, CancellationToken.None)).ToList();
        left.AddRange(_seen.Where(p => p.IsAlive()).Select(p => $"QEMU process {p.ProcessId}"));
        if (Directory.Exists(cluster.Directory))
            left.Add($"directory {cluster.Directory}");
        _state.Check("nothing is left", left.Count == 0, left.Count == 0 ? "no process, socket, port, memory file or directory" : string.Join(", ", left));
    }

    /// <summary>The directory goes away: what a failure needs is said now.</summary>
    private void KeepLogs(LocalCluster cluster)
    {
        foreach (var member in cluster.Record.Members)
            _context.Say($"The end of the log of {member.Name}:\n{cluster.LogTail(member.Name)}");
    }
}
