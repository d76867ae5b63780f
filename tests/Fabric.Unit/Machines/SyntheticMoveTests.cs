using Fabric.Core;
using Fabric.Machines;
using Fabric.Machines.Synthetic;
using Xunit;

namespace Fabric.Unit.Machines;

/// <summary>The synthetic machine moved to a second one by hand, page by page, in both ways; and that its oracle notices one page left behind.</summary>
public sealed class SyntheticMoveTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    private readonly SyntheticBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData("write-heavy:7:2M")]
    [InlineData("read-heavy:7:2M")]
    [InlineData("oracle:7")]
    public async Task Pushed_with_dirty_scans_the_guest_finds_no_error(string workload)
    {
        await using var destination = await PushAsync(workload, withheld: null, SyntheticDrive.Manual);
        Assert.Equal(0, destination.CountWrongPages());
        await destination.ContinueAsync(default);
        destination.Step(10_000);
        Assert.Equal(0, destination.Errors);
    }

    /// <summary>The planted fault: one dirty page of the last scan is not sent again. The destination holds an older, whole version of it.</summary>
    [Theory]
    [InlineData("write-heavy:7:2M")]
    [InlineData("oracle:7")]
    public async Task A_dirty_page_that_is_withheld_is_found_by_the_guest_itself(string workload)
    {
        await using var destination = await PushAsync(workload, withheld: 0, SyntheticDrive.Manual);
        Assert.Equal(1, destination.CountWrongPages());
        await destination.ContinueAsync(default);
        destination.Step(10_000);
        Assert.True(destination.Errors > 0);
    }

    [Fact]
    public async Task Pushed_while_the_guest_writes_on_its_own_thread_no_write_is_lost()
    {
        for (int seed = 1; seed <= 5; seed++)
        {
            await using var destination = await PushAsync($"write-heavy:{seed}:2M:1000000", withheld: null, SyntheticDrive.Live);
            Assert.Equal(0, destination.CountWrongPages());
            Assert.Equal(0, destination.Errors);
        }
    }

    [Fact]
    public async Task Pulled_by_faults_alone_the_stepped_guest_stands_at_each_missing_page()
    {
        var (source, destination, missing) = await SwitchOverToPullAsync("write-heavy:7:1M", SyntheticDrive.Manual);
        await using var _ = source;
        await using var __ = destination;
        using var trap = destination.Memory.TrapMissing();
        await destination.ContinueAsync(default);
        var faults = new long[8];
        int waits = 0;
        for (int left = 5000; left > 0;)
        {
            int done = destination.Step(left);
            left -= done;
            if (left == 0)
                break;
            // Trying again without the page changes nothing.
            Assert.Equal(0, destination.Step(1));
            Assert.Equal(1, trap.WaitFaults(faults, 0));
            waits++;
            Install(trap, source, missing, faults[0]);
        }

        Assert.Equal(256, waits);
        Assert.Equal(0, destination.Errors);
    }

    /// <summary>
    /// Faults served on one thread, all pages pushed by two others, in different orders, while the guest runs. Each page goes in once; a page that was there
    /// already is left alone (a second copy would undo the guest's writes: the oracle would tell).
    /// </summary>
    [Fact]
    public async Task Pulled_live_with_racing_pushes_no_page_is_torn_or_undone()
    {
        for (int seed = 1; seed <= 3; seed++)
        {
            var (source, destination, missing) = await SwitchOverToPullAsync($"write-heavy:{seed}:4M:1000000", SyntheticDrive.Live);
            await using var _ = source;
            await using var __ = destination;
            var trap = destination.Memory.TrapMissing();
            bool done = false;
            var server = new Thread(() =>
            {
                var pages = new long[8];
                while (!Volatile.Read(ref done))
                {
                    int count = trap.WaitFaults(pages, 1000);
                    for (int i = 0; i < count; i++)
                        Install(trap, source, missing, pages[i]);
                }
            });
            server.Start();
            await destination.ContinueAsync(default);
            var up = Task.Run(() =>
            {
                for (long page = 0; page < missing.Length; page++)
                    Install(trap, source, missing, page);
            });
            var down = Task.Run(() =>
            {
                for (long page = missing.Length - 1; page >= 0; page--)
                    Install(trap, source, missing, page);
            });
            await Task.WhenAll(up, down).WaitAsync(Deadline);
            Volatile.Write(ref done, true);
            trap.Interrupt();
            Assert.True(server.Join(Deadline));
            trap.Dispose();
            await destination.StopAsync(default);
            Assert.Equal(0, destination.CountWrongPages());
            Assert.Equal(0, destination.Errors);
        }
    }

    [Fact]
    public async Task A_guest_that_waits_for_a_page_can_be_stopped_and_goes_on_when_the_trap_is_gone()
    {
        var (source, destination, _) = await SwitchOverToPullAsync("oracle:7:1M", SyntheticDrive.Live);
        await using var __ = source;
        await using var ___ = destination;
        var trap = destination.Memory.TrapMissing();
        await destination.ContinueAsync(default);
        Assert.Equal(1, trap.WaitFaults(new long[1], (int)Deadline.TotalMilliseconds));
        await destination.StopAsync(default);
        Assert.Equal(MachineStatus.Paused, await destination.QueryStatusAsync(default));
        long before = destination.Operations;
        await destination.ContinueAsync(default);
        trap.Dispose();

        // Now holes read as zeros: the guest runs on, and counts what it lost as errors.
        long begun = TimeProvider.System.GetTimestamp();
        while (destination.Operations == before || destination.Errors == 0)
        {
            Assert.True(TimeProvider.System.GetElapsedTime(begun) < Deadline, "The guest does not run.");
            await Task.Yield();
        }
    }

    [Fact]
    public async Task Pages_written_before_the_guest_runs_do_not_fault_and_a_second_trap_is_refused()
    {
        var (source, destination, missing) = await SwitchOverToPullAsync("write-heavy:7:1M", SyntheticDrive.Manual);
        await using var _ = source;
        await using var __ = destination;
        using var trap = destination.Memory.TrapMissing();
        Assert.Throws<FabricException>(destination.Memory.TrapMissing);
        SyntheticBench.CopyDirectly(source.Memory, destination.Memory, missing);
        Assert.Equal(InstallOutcome.SomeAlreadyPresent, trap.Install(new PageRun(3, 1), SyntheticBench.PageOf(source.Memory, 4)));
        await destination.ContinueAsync(default);
        Assert.Equal(3000, destination.Step(3000));
        Assert.Equal(0, trap.WaitFaults(new long[1], 0));
        Assert.Equal(0, destination.Errors);
        var present = new PageBitmap(missing.Length);
        destination.Memory.ReadPresence(present);
        Assert.Equal(missing.CountSet(), present.CountSet());
        Assert.Equal(
            InstallOutcome.SomeAlreadyPresent,
            trap.Install(new PageRun(255, 2), source.Memory.Address));
    }

    private async Task<SyntheticMachine> PushAsync(string workload, long? withheld, SyntheticDrive drive)
    {
        var spec = SyntheticBench.Spec(workload);
        await using var source = await _bench.CreateAsync(spec, MachineBirth.Boot, drive);
        var destination = await _bench.CreateAsync(spec, MachineBirth.Incoming, drive);
        void Run(int operations)
        {
            if (drive == SyntheticDrive.Manual)
                source.Step(operations);
        }

        Run(3000);
        var pages = new PageBitmap(spec.PageCount);
        using var tracking = source.Memory.StartDirtyTracking();
        source.Memory.ReadPresence(pages);
        for (int round = 0; round < 20; round++)
        {
            SyntheticBench.CopyDirectly(source.Memory, destination.Memory, pages);
            Run(200);
            pages.Clear();
            tracking.Scan(pages);
        }

        await source.StopAsync(default);
        tracking.Scan(pages);
        if (withheld is not null)
        {
            long first = pages.NextSet(0);
            Assert.True(first >= 0, "Nothing is dirty: the test proves nothing.");
            pages[first] = false;
        }

        SyntheticBench.CopyDirectly(source.Memory, destination.Memory, pages);
        await SyntheticBench.HandOverAsync(source, destination);
        return destination;
    }

    private async Task<(SyntheticMachine Source, SyntheticMachine Destination, PageBitmap Missing)> SwitchOverToPullAsync(string workload, SyntheticDrive drive)
    {
        var spec = SyntheticBench.Spec(workload);
        var source = await _bench.CreateAsync(spec, MachineBirth.Boot);
        source.Step(8000);
        await source.StopAsync(default);
        var missing = new PageBitmap(spec.PageCount);
        source.Memory.ReadPresence(missing);
        var destination = await _bench.CreateAsync(spec, MachineBirth.Incoming, drive);
        await SyntheticBench.HandOverAsync(source, destination);
        return (source, destination, missing);
    }

    private static void Install(IMissingPageTrap trap, SyntheticMachine source, PageBitmap missing, long page)
    {
        var run = new PageRun(page, 1);
        if (missing[page])
            trap.Install(run, SyntheticBench.PageOf(source.Memory, page));
        else
            trap.InstallZeros(run);
    }
}
