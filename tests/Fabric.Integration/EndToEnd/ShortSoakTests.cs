using System.Globalization;
using Fabric.Benchmarks.Soak;
using Fabric.Core;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// The soak of the benchmarks, short: twelve moves in all modes, each verified in full. The proof is the guest's own: its checker counts its
/// pages in order, and the numbers of its beats must be unbroken across all moves, which a guest that was set back or ran twice cannot do.
/// </summary>
public sealed class ShortSoakTests(ITestOutputHelper output)
{
    [SkippableFact]
    public async Task A_guest_moves_twelve_times_in_all_modes_and_nothing_is_left()
    {
        ClusterBench.RequireQemu();
        string? kernel = Environment.GetEnvironmentVariable("FABRIC_GUEST_KERNEL");
        string? initrd = Environment.GetEnvironmentVariable("FABRIC_GUEST_INITRD");
        Skip.If(kernel is null || initrd is null, "no test guest: guests/build.sh builds it, and FABRIC_GUEST_KERNEL and FABRIC_GUEST_INITRD name it");
        var options = new SoakOptions
        {
            Moves = 12,
            Daemon = ClusterBench.Daemon,
            Guest = new VmSpec
            {
                Name = VmName.Parse("soak"),
                Accelerator = Accelerator.Tcg,
                MemoryBytes = 128 * ByteSize.Mebi,
                Kernel = kernel,
                Initrd = initrd,
                Append = "fabric.workload=oracle fabric.mb=16 fabric.rate=8000",
            },
        };
        var result = await new SoakRun(options, TimeProvider.System, new Random(), output.WriteLine).RunAsync(CancellationToken.None);

        // What grows from move to move cannot be told from warming up in so few: that is the long run's claim.
        foreach (var check in result.Checks)
            output.WriteLine($"{(check.Ok ? "ok  " : "FAIL")} {check.Name}: {check.Detail}");
        Assert.Equal(options.Moves, result.Samples.Count);
        Assert.All(result.Checks, c => Assert.True(c.Ok, $"{c.Name}: {c.Detail}"));
        Assert.All(result.Samples, s => Assert.True(s.Report.DowntimeMs > 0, string.Create(CultureInfo.InvariantCulture, $"move {s.Move} reports no downtime")));
    }

    [Fact]
    public void The_leak_check_sees_one_descriptor_a_move()
    {
        Assert.DoesNotContain(LeakCheck.Of(Samples(i => 200 + i % 3)), c => !c.Ok);
        Assert.Contains(LeakCheck.Of(Samples(i => 200 + i)), c => !c.Ok && c.Name.Contains("descriptors", StringComparison.Ordinal));

        static List<SoakSample> Samples(Func<int, int> descriptors) =>
            [.. Enumerable.Range(0, 100).Select(i => new SoakSample(
                i, HostName.Parse(i % 2 == 0 ? "alpha" : "beta"), null!, [new ProcessFootprint("alpha", 1, 80 * ByteSize.Mebi, 0, descriptors(i), 20)], 1, i))];
    }
}
