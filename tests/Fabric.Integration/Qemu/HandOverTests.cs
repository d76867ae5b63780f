using System.Diagnostics;
using System.Globalization;
using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Machines;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.Qemu;

/// <summary>
/// A real guest handed from one QEMU process to another on this host. The claim "no page is lost, stale or torn" is proved by the guest
/// itself: its bytes may hold two adjacent values with one step (see <see cref="BootBlock"/>), before and after it went on running.
/// </summary>
public sealed class HandOverTests(ITestOutputHelper output)
{
    [SkippableTheory]
    [InlineData(Accelerator.Tcg)]
    [InlineData(Accelerator.Kvm)]
    public async Task Precopied_memory_and_device_state_make_the_same_guest(Accelerator accelerator)
    {
        QemuBench.RequireKvm(accelerator);
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("pre", accelerator);
        var source = await bench.BootAsync(spec);
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        var pages = new PageBitmap(source.Memory.PageCount);
        using var tracking = source.Memory.StartDirtyTracking();
        source.Memory.ReadPresence(pages);
        long first = QemuBench.Push(source, target, pages);
        pages.Clear();
        tracking.Scan(pages);
        QemuBench.Push(source, target, pages);
        pages.Clear();

        var clock = Stopwatch.StartNew();
        await source.StopAsync(default);
        double stop = Lap(clock);
        byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
        double save = Lap(clock);
        long last = tracking.Scan(pages);
        QemuBench.Push(source, target, pages);
        double copy = Lap(clock);
        await target.LoadDeviceStateAsync(state, default);
        double load = Lap(clock);
        Assert.Equal(MachineStatus.Paused, await target.QueryStatusAsync(default));
        Assert.Null(BootBlock.Violation(QemuBench.Values(target)));
        clock.Restart();
        await target.ContinueAsync(default);
        double resume = Lap(clock);
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{accelerator} pre-copy: stop {stop:0.00} save {save:0.00} ({state.Length} bytes) copy {copy:0.00} ({first} then {last} pages) load {load:0.00} cont {resume:0.00} ms, without copy {stop + save + load + resume:0.00} ms"));

        await QemuBench.ProgressAsync(target);
        await target.StopAsync(default);
        Assert.Null(BootBlock.Violation(QemuBench.Values(target)));
        Assert.Equal(MachineStatus.Paused, await source.QueryStatusAsync(default));
    }

    [SkippableTheory]
    [InlineData(Accelerator.Tcg)]
    [InlineData(Accelerator.Kvm)]
    public async Task Missing_pages_are_fetched_when_the_guest_touches_them(Accelerator accelerator)
    {
        QemuBench.RequireKvm(accelerator);
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("post", accelerator);
        var source = await bench.BootAsync(spec);
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        using (var pull = new Puller(source, target))
        {
            var saved = await source.StopAndSaveAsync(releaseDisks: true, default);
            Assert.NotNull(source.StandsSince);
            byte[] state = await saved;
            await target.LoadDeviceStateAsync(state, default);
            var clock = Stopwatch.StartNew();
            await target.ContinueAsync(default);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{accelerator} post-copy: cont {Lap(clock):0.00} ms"));
            await QemuBench.EventuallyAsync(() => pull.Faults > QemuBench.Pages / 4, "the guest ran into missing pages");
            pull.PushAll();
            output.WriteLine($"{accelerator} post-copy: {pull.Faults} faults, {pull.Pushed} pushed, {pull.AlreadyThere} met");
        }

        await QemuBench.ProgressAsync(target);
        await target.StopAsync(default);
        Assert.Null(BootBlock.Violation(QemuBench.Values(target)));
    }

    [SkippableTheory]
    [InlineData(Accelerator.Tcg)]
    [InlineData(Accelerator.Kvm)]
    public async Task Guest_waits_while_the_agent_is_dead_and_goes_on_when_it_is_back(Accelerator accelerator)
    {
        QemuBench.RequireKvm(accelerator);
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("death", accelerator);
        var source = await bench.BootAsync(spec);
        var target = await bench.CreateAsync(spec, MachineBirth.Incoming);
        var pull = new Puller(source, target);
        await source.StopAsync(default);
        byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
        await target.LoadDeviceStateAsync(state, default);
        await target.ContinueAsync(default);
        await QemuBench.EventuallyAsync(() => pull.Faults > 100, "the guest ran into missing pages");

        // The agent "dies": it lets go of everything without ending the trap.
        pull.StopServing();
        string record = target.AdoptionRecord;
        await target.DisposeAsync();
        var again = await bench.Factory.AdoptAsync(record, default);
        Assert.NotNull(again);
        bench.Keep(again);
        var before = new PageBitmap(again.Memory.PageCount);
        again.Memory.ReadPresence(before);
        Assert.True(before.CountSet() < QemuBench.Pages, "the guest already had all pages: nothing was proved");

        using (var resumed = new Puller(source, again))
        {
            await QemuBench.EventuallyAsync(() => resumed.Faults > 100, "the guest went on into missing pages");
            resumed.PushAll();
        }

        await QemuBench.ProgressAsync(again);
        await again.StopAsync(default);
        Assert.Null(BootBlock.Violation(QemuBench.Values(again)));
    }

    [Fact]
    public void Oracle_sees_a_stale_page()
    {
        byte[] values = new byte[10];
        values.AsSpan().Fill(7);
        values.AsSpan(0, 4).Fill(8);
        Assert.Null(BootBlock.Violation(values));
        values[8] = 6;
        Assert.NotNull(BootBlock.Violation(values));
        values[8] = 0;
        Assert.NotNull(BootBlock.Violation(values));
    }

    private static double Lap(Stopwatch clock)
    {
        double milliseconds = clock.Elapsed.TotalMilliseconds;
        clock.Restart();
        return milliseconds;
    }
}
