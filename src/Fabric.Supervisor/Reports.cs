using System.Collections.Frozen;
// From states and facts to what operators see. Pure: after a restart the same journal gives the same answers.
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Api;

namespace Fabric.Supervisor;

internal static class Reports
{
    public static MigrationReport Of(KnownState state, Board board, DateTimeOffset now)
    {
        var plan = state.Plan;
        var end = state as TerminalState;
        var source = end is null ? Outgoing(board, plan) : null;
        var destination = end is null ? Incoming(board, plan) : null;
        var stats = end?.Outcome.Stats ?? Brain.Merge(source?.Stats ?? (state as Cleanup)?.Outcome.Stats, destination?.Stats);
        var mode = end?.Outcome.Mode ?? (plan.Options.Mode == MigrationMode.Auto && source is { Mode: not MigrationMode.Auto } named ? named.Mode : plan.Options.Mode);
        var error = end?.Error ?? (state as Aborting)?.Cause;
        return new MigrationReport(
            plan.Id, plan.Vm, plan.Source, plan.Destination, mode, state.Name, plan.Options.Reason, error is null ? null : new ErrorBodyShort(error.Code, error.Hint is null ? error.Message : $"{error.Message} {error.Hint}"),
            plan.PlannedAt, end is null ? null : (end.Since - plan.PlannedAt).TotalMilliseconds, stats.DowntimeMs, stats.ResumeMs, stats.Rounds,
            new MemoryReport(TotalBytes(stats, plan), stats.WireBytes, stats.PagesSent, stats.PagesZero, stats.PagesResent, NoOtherSources, stats.PagesPacked, stats.PagesDelta),
            new FaultReport(stats.NetworkFaults, stats.MinorFaults, stats.FaultMedianUs, stats.FaultP99Us, stats.FaultStallMs, stats.FaultServiceUs),
            null, stats.Verified, plan.Options.Verify, end?.OwnerEpoch ?? RunEpoch(state), end is null ? Progress(state, stats, plan, now) : null, plan.Batch);
    }

    public static HostReport Of(RegisteredHost host, Board board, bool cordoned)
    {
        var registration = host.Registration;
        var level = board.Host(registration.Name);
        string state = !level.Current ? "unreachable" : cordoned ? "cordoned" : "ready";
        var vms = level.Facts?.Vms.Where(static vm => vm.Owner).Select(static vm => vm.Name) ?? [];
        return new HostReport(
            registration.Name, state, cordoned, registration.AgentUrl, registration.Data, registration.MemoryBytes, level.Facts?.MemoryFreeBytes ?? 0, registration.Cpus,
            [.. vms.OrderBy(static name => name.Value, StringComparer.Ordinal)], host.LastSeen, registration.Version,
            registration.Site);
    }

    /// <param name="host">As it registered.</param>
    /// <param name="board">Its facts, and the migrations.</param>
    /// <param name="cordon">Null when it is not cordoned.</param>
    /// <param name="node">The control node that answers.</param>
    public static HostDetails Details(RegisteredHost host, Board board, Cordon? cordon, string node)
    {
        var name = host.Registration.Name;
        var level = board.Host(name);
        var machines = level.Facts?.Vms.OrderBy(static vm => vm.Name.Value, StringComparer.Ordinal)
            .Select(static vm => new HostMachine(vm.Name, vm.State, vm.Owner, vm.RunEpoch, vm.ProcessId, vm.Spec.MemoryBytes)) ?? [];
        var moves = board.Migrations.OfType<ActiveState>().Where(m => m.Plan.Source == name || m.Plan.Destination == name).OrderBy(static m => m.Plan.PlannedAt)
            .Select(m => new HostMove(m.Plan.Id, m.Plan.Vm, m.Plan.Source == name ? "out" : "in", m.Plan.Source == name ? m.Plan.Destination : m.Plan.Source, m.Name));
        var since = level.UnreachableSince ?? (cordon?.At > level.AnswersSince ? cordon.At : level.AnswersSince);
        long used = level.Facts is { } facts ? Math.Max(0, host.Registration.MemoryBytes - facts.MemoryFreeBytes) : 0;
        return new HostDetails(
            since, host.Registration.Incarnation, used, cordon is null ? null : new CordonReport(cordon.At, cordon.Reason), [.. machines], [.. moves], node);
    }

    public static VmReport Of(VmState vm, Board board)
    {
        var level = vm.Owner is { } owner ? board.Host(owner) : null;
        var fact = level?.Vm(vm.Name);
        var spec = fact?.Spec ?? vm.Spec!;
        var epoch = fact is { Owner: true } && fact.RunEpoch > vm.Epoch ? fact.RunEpoch : vm.Epoch;
        return new VmReport(vm.Name, vm.Owner, Word(vm, level, fact), spec.Machine, spec.Accelerator, spec.MemoryBytes, spec.Vcpus, epoch, fact?.ProcessId, vm.Active?.Id, spec);
    }

    public static EvacuationReport Of(BatchState batch) => new(
        batch.Plan.Id, batch.Plan.Host, batch.Word, DryRun: false, [.. batch.Items.Select(Item)], batch.Plan.PlannedAt,
        batch.EndedAt is { } ended ? (ended - batch.Plan.PlannedAt).TotalMilliseconds : null);

    public static EvacuationReport DryRun(BatchPlan plan) => new(
        plan.Id, plan.Host, "planned", DryRun: true,
        [.. plan.Placements.Select(static p => new EvacuationItem(p.Vm, p.Destination, p.Destination is null ? "stays" : "planned", null, p.Why?.Message))], plan.PlannedAt, null);

    private static readonly FrozenDictionary<string, long> NoOtherSources = FrozenDictionary<string, long>.Empty;

    private static SourceFact? Outgoing(Board board, MigrationPlan plan) =>
        board.Host(plan.Source).Vm(plan.Vm)?.Outgoing is { } fact && fact.Migration == plan.Id ? fact : null;

    private static DestinationFact? Incoming(Board board, MigrationPlan plan) =>
        board.Host(plan.Destination).Vm(plan.Vm)?.Incoming is { } fact && fact.Migration == plan.Id ? fact : null;

    private static long TotalBytes(MigrationStats stats, MigrationPlan plan) => stats.TotalBytes > 0 ? stats.TotalBytes : plan.Spec.MemoryBytes;

    private static Epoch RunEpoch(KnownState state) => state is Pulling or Cleanup or Recovering ? state.Plan.TokenEpoch : state.Plan.RunEpoch;

    private static ProgressReport Progress(KnownState state, MigrationStats stats, MigrationPlan plan, DateTimeOffset now)
    {
        long total = TotalBytes(stats, plan);
        bool begun = state is not (Planned or Prepared) && stats.TotalBytes > 0; // no numbers yet: nothing is known to be done
        long left = begun ? Math.Clamp(stats.RemainingBytes, 0, total) : total;
        double? eta = stats.WireRate is > 0 and var rate && now >= plan.PlannedAt ? left / (double)rate : null;
        return new ProgressReport(
            state.Name, begun && total > 0 ? 100.0 * (total - left) / total : null, total - left, left, stats.WireRate, stats.DirtyRate, stats.Rounds, eta, stats.ExpectedDowntimeMs, stats.CpuPercent);
    }

    private static string Word(VmState vm, HostLevel? level, VmFact? fact) => vm switch
    {
        { Status: VmStatus.Lost } => "lost",
        { Status: VmStatus.Creating } => "starting",
        { Active: not null } => "migrating",
        _ when level is not { Current: true } || fact is null => "unknown",
        _ => fact.State switch
        {
            VmRunState.Running => "running",
            VmRunState.Paused => "paused",
            VmRunState.Starting => "starting",
            VmRunState.Exited => "exited",
            _ => "unknown",
        },
    };

    private static EvacuationItem Item(BatchItem item) => new(
        item.Vm, item.Destination,
        item.Phase switch
        {
            ItemPhase.Waiting => "waiting",
            ItemPhase.Migrating => "migrating",
            ItemPhase.Moved => "moved",
            ItemPhase.Failed => "failed",
            _ => "stays",
        },
        item.Migration, item.Why?.Message);
}
