using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Machines;
using Fabric.Native;
using Xunit;

namespace Fabric.Integration.Qemu;

/// <summary>Birth, adoption, disks and death of real QEMU processes.</summary>
public sealed class LifeTests
{
    [SkippableFact]
    public async Task Disk_lock_goes_with_the_hand_over_and_two_writers_are_refused()
    {
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("disk", Accelerator.Tcg);
        var source = await bench.BootAsync(spec);

        // The incoming machine opens the same image while the source holds its lock; a second booting one is refused by the lock.
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        var refused = await Assert.ThrowsAsync<FabricException>(() => bench.CreateAsync(spec, MachineBirth.Boot));
        Assert.Contains("lock", refused.Message, StringComparison.Ordinal);

        await source.StopAsync(default);
        byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
        var all = new PageBitmap(source.Memory.PageCount);
        source.Memory.ReadPresence(all);
        QemuBench.Push(source, target, all);
        await target.LoadDeviceStateAsync(state, default);

        // Loaded, but the token has not passed: the source can still take its disks back and the destination has not taken them.
        await source.ReclaimDisksAsync(default);
        var tooEarly = await Assert.ThrowsAsync<FabricException>(async () => await target.ContinueAsync(default));
        Assert.Contains("lock", tooEarly.Message, StringComparison.Ordinal);
        Assert.Equal(MachineStatus.Paused, await target.QueryStatusAsync(default));
        await source.ContinueAsync(default);
        await QemuBench.ProgressAsync(source);
    }

    [SkippableFact]
    public async Task Running_destination_keeps_the_source_from_running_again()
    {
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("fence", Accelerator.Tcg);
        var source = await bench.BootAsync(spec);
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        await source.StopAsync(default);
        byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
        var all = new PageBitmap(source.Memory.PageCount);
        source.Memory.ReadPresence(all);
        QemuBench.Push(source, target, all);
        await target.LoadDeviceStateAsync(state, default);
        await target.ContinueAsync(default);
        await QemuBench.ProgressAsync(target);

        // Not a fence to rely on, but a belt beside the braces: a shared image keeps both from running.
        var reclaim = await Assert.ThrowsAsync<FabricException>(async () => await source.ReclaimDisksAsync(default));
        Assert.Contains("somebody else holds it", reclaim.Message, StringComparison.Ordinal);
        var resume = await Assert.ThrowsAsync<FabricException>(async () => await source.ContinueAsync(default));
        Assert.Contains("lock", resume.Message, StringComparison.Ordinal);
        Assert.Equal(MachineStatus.Paused, await source.QueryStatusAsync(default));
    }

    [SkippableFact]
    public async Task Checkpoint_keeps_the_disks_and_the_guest_goes_on()
    {
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("checkpoint", Accelerator.Tcg);
        var machine = await bench.BootAsync(spec);
        await machine.StopAsync(default);
        Assert.NotEmpty(await machine.SaveDeviceStateAsync(releaseDisks: false, default));
        var refused = await Assert.ThrowsAsync<FabricException>(() => bench.CreateAsync(spec, MachineBirth.Boot));
        Assert.Contains("lock", refused.Message, StringComparison.Ordinal);
        await machine.ContinueAsync(default);
        await machine.ContinueAsync(default);
        await QemuBench.ProgressAsync(machine);
    }

    [SkippableFact]
    public async Task Another_agent_adopts_a_running_machine_but_not_one_that_is_held()
    {
        await using var bench = new QemuBench(o => o with { CommandDeadline = TimeSpan.FromSeconds(1) });
        var machine = await bench.BootAsync(bench.BootBlockVm("adopt", Accelerator.Tcg));
        string record = machine.AdoptionRecord;
        using var other = bench.NewFactory();
        var held = await Assert.ThrowsAsync<FabricException>(async () => await other.AdoptAsync(record, default));
        Assert.Equal(ErrorCodes.Conflict, held.Error.Code);

        await machine.DisposeAsync();
        await using var adopted = await other.AdoptAsync(record, default);
        Assert.NotNull(adopted);
        Assert.Equal(MachineStatus.Running, await adopted.QueryStatusAsync(default));
        Assert.Equal(record, adopted.AdoptionRecord);
        await QemuBench.ProgressAsync(adopted);
        var dirty = new PageBitmap(adopted.Memory.PageCount);
        var tracking = adopted.Memory.StartDirtyTracking();
        await QemuBench.ProgressAsync(adopted);
        Assert.True(tracking.Scan(dirty) >= QemuBench.Pages);
        await adopted.KillAsync(default);
        Assert.Contains("ended by this agent", await adopted.Exited, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Death_from_outside_is_noticed_and_cleaned_up_at_adoption()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("killed", Accelerator.Tcg));
        using (var process = ProcessHandle.TryOpen(machine.ProcessId!.Value))
            process!.SendKill();
        string how = await machine.Exited.WaitAsync(QemuBench.Patience);
        Assert.Contains("with status 137", how, StringComparison.Ordinal);
        Assert.Equal(MachineStatus.Exited, await machine.QueryStatusAsync(default));
        var failed = await Assert.ThrowsAsync<FabricException>(async () => await machine.StopAsync(default));
        Assert.Contains("gone", failed.Message, StringComparison.Ordinal);
        await machine.DisposeAsync();
        Assert.NotEmpty(Directory.EnumerateDirectories(bench.Options.MemoryDirectory));
        Assert.Null(await bench.Factory.AdoptAsync(machine.AdoptionRecord, default));
        Assert.Empty(Directory.EnumerateDirectories(bench.Options.MemoryDirectory));
        Assert.Empty(Directory.EnumerateDirectories(bench.Options.Directory));
    }

    [SkippableFact]
    public async Task Refusals_carry_the_hypervisors_own_words_and_leave_nothing()
    {
        await using var bench = new QemuBench(o => o with { MachineType = "pc-q35-99.9" });
        var refused = await Assert.ThrowsAsync<FabricException>(() => bench.CreateAsync(bench.BootBlockVm("odd", Accelerator.Tcg), MachineBirth.Boot));
        Assert.Equal(ErrorCodes.MachineFailed, refused.Error.Code);
        Assert.Contains("unsupported machine type", refused.Message, StringComparison.Ordinal);

        // What the bench checks at its end (no file, no process) holds here already.
        Assert.Empty(Directory.EnumerateFileSystemEntries(bench.Options.Directory));
    }

    [SkippableFact]
    public async Task Damaged_device_state_is_refused_with_the_reason()
    {
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("damaged", Accelerator.Tcg);
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        byte[] garbage = new byte[4096];
        new Random(1).NextBytes(garbage);
        var refused = await Assert.ThrowsAsync<FabricException>(async () => await target.LoadDeviceStateAsync(garbage, default));
        Assert.Contains("could not load", refused.Message, StringComparison.Ordinal);
        Assert.Contains("migration", await target.Exited, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Binary_that_is_not_qemu_is_refused_within_the_deadline()
    {
        await using var bench = new QemuBench(o => o with { Binary = "/bin/cat", LaunchDeadline = TimeSpan.FromSeconds(2) });
        var refused = await Assert.ThrowsAsync<FabricException>(() => bench.CreateAsync(bench.BootBlockVm("cat", Accelerator.Tcg), MachineBirth.Boot));
        Assert.Equal(ErrorCodes.MachineFailed, refused.Error.Code);
    }

    [SkippableFact]
    public async Task Balloon_answers()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("balloon", Accelerator.Tcg));
        Assert.NotNull(machine.Balloon);
        Assert.Equal(QemuBench.MemoryBytes, await machine.Balloon.QueryActualAsync(default));
        await machine.Balloon.SetTargetAsync(48 * ByteSize.Mebi, default);

        // A guest without a driver never reports.
        Assert.Null(await machine.Balloon.QueryStatisticsAsync(default));
        Assert.NotNull(BootBlock.Violation([1, 2]));
    }
}
