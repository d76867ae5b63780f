using System.Diagnostics;
using System.Globalization;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.Qemu;

/// <summary>
/// A real guest that is held back. What the kernel was told is read from the threads themselves; that it works is seen in the guest, which writes a letter after each pass over its memory:
/// the same number of passes must take more than three times as long. Fifty times it is on an idle host; on a busy one a guest that is free is slow, too.
/// </summary>
[Collection("qemu")]
public sealed class ThrottleTests(ITestOutputHelper output)
{
    private const int Passes = 40;

    [SkippableFact]
    public async Task A_guest_is_held_back_and_let_go_again()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("slow", Accelerator.Tcg));
        var free = await PassesAsync(machine, Passes);
        await SetAsync(machine, 2);
        Assert.Single(Limited(machine));
        long held = await PassesWithinAsync(machine, 3 * free);
        output.WriteLine($"{Passes} passes in {free.TotalMilliseconds:0} ms free, {held} in three times as long at 2 %");
        Assert.InRange(held, 0, Passes - 1);
        // It is not stopped; but on a host that is a guest itself, whose processors are taken away while the kernel counts on, it was seen to get far less than 2 %.
        var slow = await PassesAsync(machine, 1);
        output.WriteLine($"one more pass after {slow.TotalMilliseconds:0} ms at 2 %");

        // It answers all the same: the limit's period is what QEMU's main loop may have to wait for a lock.
        var clock = Stopwatch.StartNew();
        for (int i = 0; i < 20; i++)
            Assert.Equal(MachineStatus.Running, await machine.QueryStatusAsync(default));
        output.WriteLine($"a question takes {clock.Elapsed.TotalMilliseconds / 20:0.0} ms at 2 %");

        machine.Throttle!.Lift();
        Assert.Empty(Limited(machine));
        machine.Throttle.Lift();
        await QemuBench.ProgressAsync(machine);
    }

    /// <summary>The limit is the threads', not the agent's: one that dies leaves it behind, which is made here by setting it again when the agent has let go.</summary>
    [SkippableFact]
    public async Task Whoever_adopts_a_guest_or_lets_go_of_it_gives_it_its_speed()
    {
        await using var bench = new QemuBench();
        var machine = await bench.BootAsync(bench.BootBlockVm("left", Accelerator.Tcg));
        await SetAsync(machine, 20);
        int thread = int.Parse(Path.GetFileName(Assert.Single(Limited(machine))), CultureInfo.InvariantCulture);
        await machine.DisposeAsync();
        Assert.Empty(Limited(machine));

        CpuLimit.Set(thread, 20);
        Assert.Single(Limited(machine));
        var adopted = await bench.Factory.AdoptAsync(machine.AdoptionRecord, default);
        Assert.NotNull(adopted);
        bench.Keep(adopted);
        Assert.Empty(Limited(adopted));
        await QemuBench.ProgressAsync(adopted);
    }

    private static async Task SetAsync(IMachine machine, int percent)
    {
        try
        {
            await machine.Throttle!.SetAsync(percent, default);
        }
        catch (FabricException refused) when (refused.Error.Code == ErrorCodes.Unsupported)
        {
            Skip.If(true, $"this host lets nobody hold a thread back: {refused.Error.Message}");
        }
    }

    private static async Task<TimeSpan> PassesAsync(IMachine machine, int passes)
    {
        long before = new FileInfo(machine.ConsoleLog).Length;
        var clock = Stopwatch.StartNew();
        await QemuBench.EventuallyAsync(() => new FileInfo(machine.ConsoleLog).Length >= before + passes, "the guest made its passes");
        return clock.Elapsed;
    }

    private static async Task<long> PassesWithinAsync(IMachine machine, TimeSpan time)
    {
        long before = new FileInfo(machine.ConsoleLog).Length;
        await Task.Delay(time, TimeProvider.System, CancellationToken.None);
        return new FileInfo(machine.ConsoleLog).Length - before;
    }

    /// <summary>Threads of the machine with the deadline policy (field 41 of their stat lines, 39 behind the name).</summary>
    private static IReadOnlyList<string> Limited(IMachine machine) =>
    [
        .. Directory.GetDirectories(string.Create(CultureInfo.InvariantCulture, $"/proc/{machine.ProcessId}/task"))
            .Where(task => File.ReadAllText(Path.Combine(task, "stat")).Split(')')[^1].TrimStart().Split(' ')[38] == "6"),
    ];
}
