using System.Diagnostics;
using System.Globalization;
using Fabric.Core;
using Fabric.Integration.Guests;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// The boot-block guest through the whole stack: CLI, control node, two agents, QEMU, a shared disk. The proof is in the guest's RAM: while its
/// process is frozen, the bytes that it counts along its memory may hold one step at most. Before each move and after it the guest must
/// have gone on counting, or the rule would hold for a guest that stands.
/// </summary>
public sealed class BootBlockMoveTests(ITestOutputHelper output)
{
    private const int RangeEnd = 0x0200_0000;

    [SkippableTheory]
    [InlineData("tcg")]
    [InlineData("kvm")]
    public async Task The_boot_block_counts_on_through_moves_in_every_mode(string accelerator)
    {
        ClusterBench.RequireQemu();
        if (accelerator == "kvm")
            ClusterBench.RequireKvm();
        string disk = Path.Combine(Path.GetTempPath(), $"fe-boot-{Environment.ProcessId.ToString(CultureInfo.InvariantCulture)}.img");
        await File.WriteAllBytesAsync(disk, BootBlock.Image(RangeEnd));
        try
        {
            await using var bench = await ClusterBench.StartAsync(hosts: 2);
            await bench.DoAsync("vm", "create", "boot", "--memory", "64M", "--accel", accelerator, "--disk", disk + ",shared", "--on", "alpha");
            await GoesOnAsync(bench);
            string[] modes = ["pre-copy", "post-copy", "hybrid", "pre-copy", "post-copy"];
            for (int i = 0; i < modes.Length; i++)
            {
                string to = i % 2 == 0 ? "beta" : "alpha";
                var moved = await bench.AskAsync("migrate", "boot", "--to", to, "--mode", modes[i], "--verify", "full", "--wait");
                Assert.Equal("completed", moved.GetProperty("state").GetString());
                Assert.True(moved.GetProperty("verified").GetBoolean());
                output.WriteLine($"{accelerator} {modes[i]}: {moved.GetProperty("total_ms")} ms, downtime {moved.GetProperty("downtime_ms")} ms, {moved.GetProperty("faults")}");
                await GoesOnAsync(bench);
                await OracleHoldsAsync(bench, to);
            }
        }
        finally
        {
            File.Delete(disk);
        }
    }

    /// <summary>The guest writes one letter after each pass over its memory.</summary>
    private static async Task GoesOnAsync(ClusterBench bench)
    {
        long before = await PassesAsync(bench);
        await ClusterBench.EventuallyAsync(async () => await PassesAsync(bench) >= before + 2, "the guest made two more passes");
    }

    private static async Task<long> PassesAsync(ClusterBench bench) =>
        (await bench.Client.ConsoleAsync(VmName.Parse("boot"), 0, CancellationToken.None)).Text.Count(c => c == 'B');

    private static async Task OracleHoldsAsync(ClusterBench bench, string host)
    {
        var vm = await bench.Client.VmAsync(VmName.Parse("boot"), CancellationToken.None);
        Assert.Equal(host, vm.Host?.Value);
        string memory = Path.Combine(bench.Cluster.Record.MemoryDirectory, bench.Cluster.Record.MemoryPrefix + host);
        string ram = Assert.Single(Directory.GetFiles(memory, "ram", SearchOption.AllDirectories));
        byte seen = FirstByte(ram);
        await ClusterBench.EventuallyAsync(() => Task.FromResult(FirstByte(ram) != seen), "the RAM file is the one that the guest counts in");
        await SignalAsync("STOP", vm.ProcessId!.Value);
        try
        {
            await ClusterBench.EventuallyAsync(() => Task.FromResult(AllThreadsStand(vm.ProcessId.Value)), "the process stands");
            byte[] values = new byte[(RangeEnd - BootBlock.RangeStart) / BootBlock.PageSize];
            using var file = new FileStream(ram, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            for (int i = 0; i < values.Length; i++)
            {
                file.Position = BootBlock.RangeStart + (long)i * BootBlock.PageSize;
                file.ReadExactly(values, i, 1);
            }

            Assert.Null(BootBlock.Violation(values));
        }
        finally
        {
            await SignalAsync("CONT", vm.ProcessId.Value);
        }
    }

    private static byte FirstByte(string ram)
    {
        using var file = new FileStream(ram, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        file.Position = BootBlock.RangeStart;
        return (byte)file.ReadByte();
    }

    private static bool AllThreadsStand(int process) => Directory.GetDirectories($"/proc/{process.ToString(CultureInfo.InvariantCulture)}/task")
        .All(task => File.ReadLines(Path.Combine(task, "status")).Any(line => line.StartsWith("State:\tT", StringComparison.Ordinal)));

    private static async Task SignalAsync(string signal, int process)
    {
        using var kill = Process.Start("kill", [$"-{signal}", process.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
        Assert.Equal(0, kill.ExitCode);
    }
}
