using Fabric.Cli.Commands;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Machines.Guests;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Wire.Api;

namespace Fabric.Cli.Demo;

/// <summary>
/// The demo from an empty machine to an empty machine: cluster, guests, moves, evacuation, checks, clean-up. The clean-up runs whatever happened
/// before it and is itself checked.
/// </summary>
internal sealed partial class DemoRun(Invocation run, DemoOptions options)
{
    private static readonly TimeSpan BootWithin = TimeSpan.FromSeconds(90);
    private static readonly TimeSpan MoveWithin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan EvacuateWithin = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan SpeakWithin = TimeSpan.FromSeconds(45);

    private static readonly TimeSpan MeasureWithin = TimeSpan.FromSeconds(10);

    /// <summary>Milliseconds of a guest's clock between its moves, so that the guest can tell its stops apart.</summary>
    private const long QuietGuestMs = 5000;

    private readonly DemoState _state = new();
    private readonly HashSet<ProcessIdentity> _seen = [];
    private readonly CliContext _context = run.Context;
    private string? _error;

    private bool HasConsoles => options.Machine == MachineKind.Qemu;

    public async Task<DemoResult> RunAsync(CancellationToken cancellation)
    {
        var started = _context.Time.GetUtcNow();
        long ticks = _context.Time.GetTimestamp();
        var image = HasConsoles ? await GuestImage.FindAsync(_context, cancellation) : null;
        string directory = Directory.CreateTempSubdirectory("fabric-demo-").FullName;
        var cluster = LocalCluster.Create(
            new LocalClusterOptions { Directory = directory, Daemon = options.Daemon, Hosts = options.Hosts, Ephemeral = true }, _context.Time, _context.Random);
        IReadOnlyList<DemoMigration> migrations = [];
        IReadOnlyList<DemoGuestResult> guests = [];
        try
        {
            await new DemoScreen(run, _state).ShowAsync(async () => (migrations, guests) = await PlayAsync(cluster, image, cancellation));
        }
        catch (FabricException failed)
        {
            _error = failed.Error.ToString();
            KeepLogs(cluster);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            _context.Say("Interrupted; cleaning up ...");
        }
        finally
        {
            await CleanUpAsync(cluster);
        }

        // One that ended early still tells which VMs it moved; what their guests saw of it was not asked for.
        if (migrations.Count == 0)
            migrations = [.. _state.Moves.Select(static move => new DemoMigration(move.Report, null, null, null))];
        bool interrupted = cancellation.IsCancellationRequested;
        bool ok = !interrupted && _error is null && _state.Checks.All(c => c.Ok);
        int code = interrupted ? ExitCode.Interrupted : ok ? ExitCode.Done : ExitCode.Failed;
        var result = new DemoResult(
            ok, code, options.Machine, options.Hosts, started, _context.Time.GetElapsedTime(ticks).TotalSeconds, migrations, _state.Evacuation, guests, _state.Checks, interrupted ? "interrupted" : _error);
        DemoTables.Print(run, result);
        return result;
    }

    private async Task<(IReadOnlyList<DemoMigration>, IReadOnlyList<DemoGuestResult>)> PlayAsync(LocalCluster cluster, GuestImage? image, CancellationToken cancellation)
    {
        _state.Stage = $"starting a control node and {options.Hosts} hosts in {cluster.Directory}";
        await cluster.StartAsync(cancellation);
        using var client = new ControlClient(cluster.ApiUrl);
        var consoles = new GuestConsoles(client, _context.Time, [.. DemoPlan.Guests.Select(g => g.Name)]);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var following = HasConsoles ? consoles.FollowAsync(stop.Token) : Task.CompletedTask;
        try
        {
            await BootAsync(client, consoles, image, cancellation);
            // What a move takes of an agent that is still starting up is another figure.
            _state.Stage = "the hosts rehearse a migration";
            await cluster.WaitUntilReadyAsync(cancellation);
            int number = 0;
            foreach (var move in DemoPlan.Moves)
            {
                _state.Stage = $"move {++number} of {DemoPlan.Moves.Count}: {move.Vm} to {move.To}, {Output.Words.Name(move.Mode)}";
                await MoveAsync(client, consoles, move, cancellation);
            }

            await EvacuateAsync(client, consoles, cancellation);
            _state.Stage = "asking the guests what they saw";
            return await JudgeAsync(cluster, client, consoles, cancellation);
        }
        finally
        {
            await stop.CancelAsync();
            await following.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task BootAsync(ControlClient client, GuestConsoles consoles, GuestImage? image, CancellationToken cancellation)
    {
        _state.Stage = "starting four guests";
        foreach (var guest in DemoPlan.Guests)
            await client.CreateVmAsync(new CreateVmRequest(DemoPlan.Spec(guest, options, image), guest.Host), cancellation);
        await NoteProcessesAsync(client, cancellation);
        if (!HasConsoles)
            return;
        _state.Stage = "the guests boot";

        // Three seconds of heartbeat give the guest's own measurement its beginning.
        await Task.WhenAll(DemoPlan.Guests.Select(g => consoles.WaitAsync(
            g.Name, log => (log.IsWorkloadReady || g.Workload == "idle") && log.Beats.Count > 0 && log.Beats[^1].GuestMs - log.Beats[0].GuestMs >= QuietGuestMs, "come up", BootWithin, cancellation)));
    }

    private async Task MoveAsync(ControlClient client, GuestConsoles consoles, DemoMove move, CancellationToken cancellation)
    {
        await QuietAsync(consoles, move.Vm, cancellation);
        long? before = GuestNow(consoles, move.Vm);
        var request = new MigrateRequest(
            move.Vm, move.To, new MigrationOptions { Mode = move.Mode, Verify = move.Verify, Reason = "demo" }, MigrateCommand.NewRequestId(_context.Random));
        var report = await client.MigrateAsync(request, cancellation);
        _state.Put(new MoveRecord(report, before, null));
        report = await EndAsync(client, report, cancellation);
        if (report.State != MigrationStates.Completed)
            throw new FabricException(ErrorCodes.MachineFailed, $"The {Output.Words.Name(move.Mode)} move of '{move.Vm}' ended as {report.State}: {report.Error?.Message.TrimEnd('.') ?? "no error given"}.");
        await NoteProcessesAsync(client, cancellation);
        _state.Put(new MoveRecord(report, before, await AliveAsync(consoles, move.Vm, cancellation)));
    }

    private async Task<MigrationReport> EndAsync(ControlClient client, MigrationReport report, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(MoveWithin, _context.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            for (long version = 0; !MigrationStates.IsFinal(report);)
            {
                version = await client.WaitChangeAsync(version, TimeSpan.FromMilliseconds(500), either.Token);
                report = await client.MigrationAsync(report.Id.ToString(), either.Token);
                _state.Put(new MoveRecord(report, null, null));
            }

            return report;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"The move of '{report.Vm}' was still {report.State} after {MoveWithin.TotalSeconds:0} s.");
        }
    }

    private async Task EvacuateAsync(ControlClient client, GuestConsoles consoles, CancellationToken cancellation)
    {
        var there = (await client.VmsAsync(cancellation)).Where(v => v.Host == DemoPlan.Evacuated).Select(v => v.Name).ToList();
        foreach (var vm in there)
            await QuietAsync(consoles, vm, cancellation);
        var before = there.ToDictionary(vm => vm, vm => GuestNow(consoles, vm));
        _state.Stage = $"emptying host {DemoPlan.Evacuated}: {string.Join(", ", there)}";
        var batch = await client.EvacuateAsync(
            new EvacuateRequest(DemoPlan.Evacuated, null, DryRun: false, DemoPlan.EvacuationOptions, MigrateCommand.NewRequestId(_context.Random)), cancellation);
        batch = await EndAsync(client, batch, before, cancellation);
        if (batch.State != "done")
            throw new FabricException(ErrorCodes.MachineFailed, $"The evacuation of '{batch.Host}' ended as {batch.State}: {string.Join("; ", batch.Items.Where(i => i.State != "moved").Select(i => $"{i.Vm} {i.State} {i.Why}"))}.");
        await NoteProcessesAsync(client, cancellation);
        foreach (var move in _state.Moves.Where(m => m.ToGuestMs is null))
            _state.Put(move with { ToGuestMs = await AliveAsync(consoles, move.Report.Vm, cancellation) });
    }

    private async Task<EvacuationReport> EndAsync(ControlClient client, EvacuationReport batch, Dictionary<VmName, long?> before, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(EvacuateWithin, _context.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            for (long version = 0; ;)
            {
                batch = await client.EvacuationAsync(batch.Id, either.Token);
                var ids = batch.Items.Where(i => i.Migration is not null).Select(i => i.Migration!.Value).ToHashSet();
                foreach (var report in (await client.MigrationsAsync(either.Token)).Where(m => ids.Contains(m.Id)))
                    _state.Put(new MoveRecord(report, before.GetValueOrDefault(report.Vm), null));
                _state.Evacuation = batch;
                if (MigrationStates.IsFinal(batch))
                    return batch;
                version = await client.WaitChangeAsync(version, TimeSpan.FromMilliseconds(500), either.Token);
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"The evacuation of '{batch.Host}' was still {batch.State} after {EvacuateWithin.TotalSeconds:0} s.");
        }
    }

    /// <summary>Waits until the guest's last move lies far enough back and the guest has measured the host's clock since: its next stop is then told apart.</summary>
    private Task QuietAsync(GuestConsoles consoles, VmName vm, CancellationToken cancellation) =>
        HasConsoles ? SettleAsync(consoles, vm, _state.Moves.LastOrDefault(m => m.Report.Vm == vm)?.ToGuestMs ?? 0, cancellation) : Task.CompletedTask;

    private static async Task SettleAsync(GuestConsoles consoles, VmName vm, long moved, CancellationToken cancellation)
    {
        await consoles.WaitAsync(vm, log => log.Beats[^1].GuestMs >= moved + QuietGuestMs, "go on", SpeakWithin, cancellation);
        try
        {
            await consoles.WaitAsync(vm, HasSampleSince, "measure the host's clock", MeasureWithin, cancellation);
        }
        catch (FabricException)
        {
            // On a machine that is too busy for the measurement the demo goes on without it.
        }

        bool HasSampleSince(HeartbeatLog log) =>
            log.Beats[^1].Host is { } sample && sample.UncertaintyUs <= HeartbeatLog.SettledUncertaintyUs && sample.EdgeMs >= moved;
    }

    /// <summary>Waits for two beats that the guest can only have written at its new host; the second one's guest time.</summary>
    private async Task<long?> AliveAsync(GuestConsoles consoles, VmName vm, CancellationToken cancellation)
    {
        if (!HasConsoles)
            return null;
        long known = consoles.Look(vm, log => log.Beats[^1].Sequence);
        await consoles.WaitAsync(vm, log => log.Beats[^1].Sequence >= known + 2, "speak after its move", SpeakWithin, cancellation);
        return GuestNow(consoles, vm);
    }

    private static long? GuestNow(GuestConsoles consoles, VmName vm) => consoles.Look<long?>(vm, log => log.Beats.Count > 0 ? log.Beats[^1].GuestMs : null);

    private async Task NoteProcessesAsync(ControlClient client, CancellationToken cancellation)
    {
        foreach (var vm in await client.VmsAsync(cancellation))
        {
            if (vm.ProcessId is { } pid && ProcessIdentity.Of(pid) is { } identity)
                _seen.Add(identity);
        }
    }
}
