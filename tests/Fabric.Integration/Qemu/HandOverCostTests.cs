using System.Diagnostics;
using System.Globalization;
using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Machines;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.Qemu;

/// <summary>What each step of a switch-over costs, over several in a row: the VM wanders from process to process and must stay intact.</summary>
[Collection("qemu")]
public sealed class HandOverCostTests(ITestOutputHelper output)
{
    private const int Rounds = 10;

    // Not a promise about speed: the machine may be busy with other things, and then medians say how busy. A step that waits for a poll or a
    // timeout, which is what this guards against, does so in every round, the best one included.
    private const double LeastMillisecondsMost = 60;

    [SkippableTheory]
    [InlineData(Accelerator.Tcg, true)]
    [InlineData(Accelerator.Kvm, true)]
    [InlineData(Accelerator.Tcg, false)]
    public async Task Steps_are_short_and_the_guest_survives_many_moves(Accelerator accelerator, bool diskInMemory)
    {
        QemuBench.RequireKvm(accelerator);
        await using var bench = new QemuBench();
        var spec = bench.BootBlockVm("cost", accelerator, diskInMemory);
        var current = await bench.BootAsync(spec);
        var costs = new List<double[]>();
        for (int round = 0; round < Rounds; round++)
        {
            var next = await bench.CreateAsync(spec, MachineBirth.Incoming);
            costs.Add(await MoveAsync(current, next));
            await current.KillAsync(default);
            current = next;
            await QemuBench.ProgressAsync(current);
        }

        await current.StopAsync(default);
        Assert.Null(BootBlock.Violation(QemuBench.Values(current)));
        string[] names = ["stop", "save", "scan", "load", "cont", "sum"];
        for (int i = 0; i < names.Length; i++)
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{accelerator} {(diskInMemory ? "tmpfs" : "disk")} {names[i],-5} median {Median(costs, i):0.00} ms, least {costs.Min(c => c[i]):0.00}, most {costs.Max(c => c[i]):0.00}"));
        Assert.InRange(costs.Min(c => c[^1]), 0, LeastMillisecondsMost);
    }

    private static async Task<double[]> MoveAsync(IMachine source, IMachine target)
    {
        var pages = new PageBitmap(source.Memory.PageCount);
        using var tracking = source.Memory.StartDirtyTracking();
        source.Memory.ReadPresence(pages);
        QemuBench.Push(source, target, pages);
        pages.Clear();
        var clock = Stopwatch.StartNew();
        await source.StopAsync(default);
        double stop = clock.Elapsed.TotalMilliseconds;
        byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
        double save = clock.Elapsed.TotalMilliseconds;
        tracking.Scan(pages);
        double scan = clock.Elapsed.TotalMilliseconds;
        QemuBench.Push(source, target, pages);
        double copied = clock.Elapsed.TotalMilliseconds;
        await target.LoadDeviceStateAsync(state, default);
        double load = clock.Elapsed.TotalMilliseconds;
        await target.ContinueAsync(default);
        double cont = clock.Elapsed.TotalMilliseconds;
        return [stop, save - stop, scan - save, load - copied, cont - load, cont - (copied - scan)];
    }

    private static double Median(List<double[]> costs, int index) => costs.Select(c => c[index]).Order().ElementAt(costs.Count / 2);
}
