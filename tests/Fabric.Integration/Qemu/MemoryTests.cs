using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Machines;
using Xunit;

namespace Fabric.Integration.Qemu;

/// <summary>
/// Dirty tracking and traps on a real guest. Exactness is proved by comparing the guest's bytes before and after: a page whose byte changed must be
/// reported, and a page in the counted range that is reported must have been reached by the counting.
/// </summary>
[Collection("qemu")]
public sealed class MemoryTests
{
    [SkippableTheory]
    [InlineData(Accelerator.Tcg)]
    [InlineData(Accelerator.Kvm)]
    public async Task Scan_reports_exactly_what_the_guest_wrote(Accelerator accelerator)
    {
        QemuBench.RequireKvm(accelerator);
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("dirty", accelerator));
        var dirty = new PageBitmap(machine.Memory.PageCount);
        await machine.StopAsync(default);
        byte[] before = QemuBench.Values(machine);
        var tracking = machine.Memory.StartDirtyTracking();
        Assert.Equal(0, tracking.Scan(dirty));

        await machine.ContinueAsync(default);
        await QemuBench.ProgressAsync(machine);
        await machine.StopAsync(default);
        long reported = tracking.Scan(dirty);
        Assert.Equal(reported, dirty.CountSet());
        byte[] after = QemuBench.Values(machine);
        AssertReported(before, after, dirty);

        // Two passes and more: every page of the range was written; and next to nothing besides (the firmware's and QEMU's own few).
        Assert.Equal(QemuBench.Pages, CountInRange(dirty));
        Assert.InRange(reported, QemuBench.Pages, QemuBench.Pages + 64);
        Assert.Equal(0, tracking.Scan(dirty));
        machine.Memory.StopDirtyTracking();
        await machine.ContinueAsync(default);
        await QemuBench.ProgressAsync(machine);
    }

    /// <summary>What the earlier recording took or ended would be missed by the later one: all pages that the guest changes must be found by it.</summary>
    [SkippableFact]
    public async Task A_recording_that_another_has_replaced_takes_nothing_from_it_and_does_not_end_it()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("twice", Accelerator.Tcg));
        await machine.StopAsync(default);
        byte[] before = QemuBench.Values(machine);
        var earlier = machine.Memory.StartDirtyTracking();
        using var later = machine.Memory.StartDirtyTracking();
        await machine.ContinueAsync(default);
        await QemuBench.ProgressAsync(machine);
        await machine.StopAsync(default);

        var dirty = new PageBitmap(machine.Memory.PageCount);
        var refused = Assert.Throws<FabricException>(() => earlier.Scan(dirty));
        Assert.Equal((ErrorCodes.Cancelled, 0L), (refused.Error.Code, dirty.CountSet()));
        earlier.Dispose();
        later.Scan(dirty);
        AssertReported(before, QemuBench.Values(machine), dirty);
        Assert.Equal(QemuBench.Pages, CountInRange(dirty));
    }

    /// <summary>
    /// The guest stands while it is looked at: what it touched is compared with the range that it counts over, and the bytes say that taking pages out of QEMU's table has cost none of them. Then it counts
    /// on under the watch, and each page that it changes must be found written: a page that was unmapped and armed again is recorded like any other.
    /// </summary>
    [SkippableTheory]
    [InlineData(Accelerator.Tcg)]
    [InlineData(Accelerator.Kvm)]
    public async Task Touches_are_seen_and_cost_neither_bytes_nor_writes(Accelerator accelerator)
    {
        QemuBench.RequireKvm(accelerator);
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("touch", accelerator));
        await machine.StopAsync(default);
        byte[] before = QemuBench.Values(machine);
        Assert.True(machine.Memory.WatchTouches(default));
        var touched = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadTouches(touched);
        Assert.InRange(touched.CountSet(), 0, 8);
        Assert.Equal(before, QemuBench.Values(machine));

        var tracking = machine.Memory.StartDirtyTracking();
        await machine.ContinueAsync(default);
        await QemuBench.ProgressAsync(machine);
        await machine.StopAsync(default);
        touched.Clear();
        machine.Memory.ReadTouches(touched);
        Assert.Equal(QemuBench.Pages, CountInRange(touched));
        Assert.InRange(touched.CountSet(), QemuBench.Pages, QemuBench.Pages + 128);
        // Its code was translated before the watch began; it counts as touched all the same.
        Assert.True(touched[BootBlock.CodePage]);
        var dirty = new PageBitmap(machine.Memory.PageCount);
        tracking.Scan(dirty);
        byte[] after = QemuBench.Values(machine);
        AssertReported(before, after, dirty);
        Assert.Null(BootBlock.Violation(after));

        // Not while writes are recorded: a page that was written and then unmapped would count as clean.
        Assert.False(machine.Memory.WatchTouches(default));
        machine.Memory.StopDirtyTracking();
        Assert.True(machine.Memory.WatchTouches(default));
    }

    /// <summary>A source may go while its pages are sent: who reads them has a pin.</summary>
    [SkippableFact]
    public async Task What_is_pinned_is_read_after_the_machine_has_gone()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("pinned", Accelerator.Tcg));
        await machine.StopAsync(default);
        byte[] before = QemuBench.Values(machine);
        using var page = Fabric.Native.MappedMemory.Anonymous(VmSpec.PageSize);
        using (machine.Memory.Pin())
        {
            await machine.KillAsync(default);
            await machine.DisposeAsync();
            Assert.True(machine.Memory.TryRead(new PageRun(BootBlock.RangeStart / VmSpec.PageSize, 1), page.Address));
            Assert.Equal(before[0], System.Runtime.InteropServices.Marshal.ReadByte(page.Address));
        }

        Assert.Throws<ObjectDisposedException>(() => machine.Memory.TryRead(new PageRun(0, 1), page.Address));
    }

    [SkippableFact]
    public async Task Pages_that_came_are_mapped_ahead_of_the_guests_first_touch()
    {
        await using var bench = new QemuBench();
        var machine = await bench.CreateAsync(bench.BootBlockVm("ahead", Accelerator.Tcg), MachineBirth.Incoming);
        using (var page = Fabric.Native.MappedMemory.Anonymous(64L * VmSpec.PageSize))
        {
            Fabric.Native.PageBytes.Fill(page.Address, 64L * VmSpec.PageSize, 7);
            Assert.True(machine.Memory.TryFill(new PageRun(100, 64), page.Address));
        }

        var wanted = new PageBitmap(machine.Memory.PageCount);
        wanted.SetRun(new PageRun(90, 100)); // holes among them: they stay holes
        machine.Memory.MapAhead(wanted, default);
        machine.Memory.MapAhead(wanted, default); // what is there already is passed over
        var mapped = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadTouches(mapped);
        Assert.Equal(64, mapped.CountSet());
        Assert.True(mapped[100] && mapped[163]);
        var present = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadPresence(present);
        Assert.Equal(64, present.CountSet());

        // It leaves nothing behind that a trap would stumble over.
        using var trap = machine.Memory.TrapMissing();
        Assert.Equal(InstallOutcome.SomeAlreadyPresent, trap.InstallZeros(new PageRun(99, 2)));
    }

    [SkippableFact]
    public async Task Holes_are_holes_and_touched_pages_are_present()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("presence", Accelerator.Tcg));
        await machine.StopAsync(default);
        var present = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadPresence(present);
        Assert.Equal(QemuBench.Pages, CountInRange(present));

        // The guest has 64 MiB and counts over 31: most of the rest was never touched.
        Assert.InRange(present.CountSet(), QemuBench.Pages, QemuBench.Pages + 1024);
        machine.Memory.Discard(new PageRun(BootBlock.FirstPage + 5, 3));
        machine.Memory.ReadPresence(present);
        Assert.False(present[BootBlock.FirstPage + 5] || present[BootBlock.FirstPage + 6] || present[BootBlock.FirstPage + 7]);
        Assert.True(present[BootBlock.FirstPage + 4] && present[BootBlock.FirstPage + 8]);
    }

    [SkippableFact]
    public async Task Incoming_machine_begins_without_a_single_page()
    {
        await using var bench = new QemuBench();
        var machine = await bench.CreateAsync(bench.BootBlockVm("empty", Accelerator.Tcg), MachineBirth.Incoming);
        var present = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadPresence(present);
        Assert.Equal(0, present.CountSet());
        Assert.Equal(MachineStatus.AwaitingState, await machine.QueryStatusAsync(default));
        var refusal = await Assert.ThrowsAsync<FabricException>(async () => await machine.ContinueAsync(default));
        Assert.Equal(ErrorCodes.Conflict, refusal.Error.Code);
    }

    [SkippableFact]
    public async Task Machine_that_still_pulls_can_already_be_tracked()
    {
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("both", Accelerator.Tcg);
        var source = await bench.BootAsync(spec);
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        var dirty = new PageBitmap(target.Memory.PageCount);
        IDirtyTracking tracking;
        using (var pull = new Puller(source, target))
        {
            await source.StopAsync(default);
            byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
            await target.LoadDeviceStateAsync(state, default);
            await target.ContinueAsync(default);

            // Write protection joins the trap in one step: faults go on being answered, writes begin to be recorded.
            tracking = target.Memory.StartDirtyTracking();
            int faults = pull.Faults;
            await QemuBench.EventuallyAsync(() => pull.Faults > faults + 100, "missing pages still trap under write protection");
            pull.PushAll();
            tracking.Scan(dirty);
            await QemuBench.ProgressAsync(target);
        }

        // The trap is gone, the tracking is not; at its change too much may be reported, never too little.
        await target.StopAsync(default);
        tracking.Scan(dirty);
        Assert.Equal(QemuBench.Pages, CountInRange(dirty));
        dirty.Clear();
        await target.ContinueAsync(default);
        await QemuBench.ProgressAsync(target);
        await target.StopAsync(default);
        tracking.Scan(dirty);
        Assert.Equal(QemuBench.Pages, CountInRange(dirty));
        Assert.Null(BootBlock.Violation(QemuBench.Values(target)));
    }

    [SkippableFact]
    public async Task Trap_says_when_the_machine_is_gone_and_when_it_is_interrupted()
    {
        await using var bench = new QemuBench();
        var machine = await bench.CreateAsync(bench.BootBlockVm("gone", Accelerator.Tcg), MachineBirth.Incoming);
        using var trap = machine.Memory.TrapMissing();
        long[] pages = new long[64];
        trap.Interrupt();
        Assert.Equal(0, trap.WaitFaults(pages, deadlineMilliseconds: 60_000));
        Assert.Equal(InstallOutcome.Installed, trap.InstallZeros(new PageRun(100, 2)));
        Assert.Equal(InstallOutcome.SomeAlreadyPresent, trap.InstallZeros(new PageRun(98, 6)));
        var present = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadPresence(present);
        Assert.Equal(6, present.CountSet());

        var waiting = Task.Factory.StartNew(() => trap.WaitFaults(pages, 60_000), default, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        await machine.KillAsync(default);
        Assert.Equal(-1, await waiting);
        Assert.Equal(InstallOutcome.MachineGone, trap.InstallZeros(new PageRun(300, 1)));
    }

    private static void AssertReported(byte[] before, byte[] after, PageBitmap dirty)
    {
        for (int i = 0; i < after.Length; i++)
            Assert.True(before[i] == after[i] || dirty[BootBlock.FirstPage + i], $"page {i} of the range changed from {before[i]} to {after[i]} unreported");
    }

    private static long CountInRange(PageBitmap pages)
    {
        long count = 0;
        for (int i = 0; i < QemuBench.Pages; i++)
            count += pages[BootBlock.FirstPage + i] ? 1 : 0;
        return count;
    }
}
