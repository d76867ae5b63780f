using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Fabric.Core;
using Fabric.Machines.Guests;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// A Linux guest that writes faster than the wire carries, through the whole stack. The guest's own checker says whether its memory arrived; the time of one copy is reckoned from the pages that
/// its RAM file holds and the cap that was asked for.
/// </summary>
[Collection("qemu")]
public sealed class ConvergenceMoveTests(ITestOutputHelper output)
{
    private const int MaxDowntimeMs = 300;
    private static readonly VmName Vm = VmName.Parse("writer");

    /// <summary>Two times 32 MiB a second, over 48 MiB in page order.</summary>
    [SkippableFact]
    public async Task Auto_of_a_guest_that_writes_twice_what_the_wire_carries_takes_little_more_than_one_copy()
    {
        const double Wire = 32 * ByteSize.Mebi;
        await using var bench = await StartAsync("fabric.workload=oracle fabric.mb=48 fabric.rate=16384");
        double oneCopyMs = await PresentBytesAsync(bench, "alpha") / Wire * 1000;
        var moved = await bench.AskAsync("migrate", "writer", "--to", "beta", "--mode", "auto", "--bandwidth", "32M", "--max-downtime", Text(MaxDowntimeMs), "--wait");
        Assert.Equal("completed", moved.GetProperty("state").GetString());
        double total = moved.GetProperty("total_ms").GetDouble();
        double downtime = moved.GetProperty("downtime_ms").GetDouble();
        string why = (await bench.DoAsync("events")).Out;
        output.WriteLine($"total {total:0} ms, one copy {oneCopyMs:0} ms: {total / oneCopyMs:0.00}; downtime {downtime:0} ms; {Why(why)}");
        // Beside the wire: a machine is started at the destination and ended at the source, on a host that may be busy.
        Assert.InRange(total, 0, (1.3 * oneCopyMs) + 3000);
        Assert.InRange(downtime, 0, MaxDowntimeMs);
        Assert.Equal("hybrid", moved.GetProperty("mode").GetString());
        Assert.Contains("switched to post-copy: ", why, StringComparison.Ordinal);
        await ChecksOnAsync(bench);
    }

    /// <summary>As fast as it can over 48 MiB, of which a third fits the downtime: the guest is slowed until it does, or stays.</summary>
    [SkippableFact]
    public async Task Pre_copy_of_a_guest_that_outruns_the_wire_keeps_the_downtime_or_leaves_the_guest_where_it_is_at_full_speed()
    {
        await using var bench = await StartAsync("fabric.workload=write-heavy fabric.mb=48");
        var said = await bench.RunAsync("migrate", "writer", "--to", "beta", "--mode", "pre-copy", "--bandwidth", "64M", "--max-downtime", Text(MaxDowntimeMs), "--wait", "-o", "json");
        using var json = JsonDocument.Parse(said.Out);
        string why = (await bench.DoAsync("events")).Out;
        output.WriteLine($"{json.RootElement.GetProperty("state")} after {json.RootElement.GetProperty("total_ms")} ms, downtime {json.RootElement.GetProperty("downtime_ms")} ms, {json.RootElement.GetProperty("memory")}; {Why(why)}");
        Assert.Contains("throttled to ", said.Exit == 0 ? why : why + "throttled to ", StringComparison.Ordinal);
        if (json.RootElement.GetProperty("state").GetString() == "completed")
        {
            // Reckoned to fit; what a busy host adds to a stop is no part of that.
            Assert.InRange(json.RootElement.GetProperty("downtime_ms").GetDouble(), 0, 1.5 * MaxDowntimeMs);
        }
        else
        {
            Assert.Equal(ErrorCodes.NotConverging, json.RootElement.GetProperty("error").GetProperty("code").GetString());
            Assert.Contains("--mode auto", why + said.Talk, StringComparison.Ordinal);
        }

        var vm = await bench.Client.VmAsync(Vm, CancellationToken.None);
        Assert.DoesNotContain(Directory.GetDirectories(string.Create(CultureInfo.InvariantCulture, $"/proc/{vm.ProcessId}/task")), IsLimited);
        await ChecksOnAsync(bench);
    }

    private static async Task<ClusterBench> StartAsync(string append)
    {
        ClusterBench.RequireQemu();
        string? kernel = Environment.GetEnvironmentVariable("FABRIC_GUEST_KERNEL");
        string? initrd = Environment.GetEnvironmentVariable("FABRIC_GUEST_INITRD");
        Skip.If(kernel is null || initrd is null, "no test guest: guests/build.sh builds it, and FABRIC_GUEST_KERNEL and FABRIC_GUEST_INITRD name it");
        var bench = await ClusterBench.StartAsync(hosts: 2, timed: true);
        try
        {
            await bench.DoAsync("vm", "create", "writer", "--memory", "128M", "--accel", "tcg", "--kernel", kernel, "--initrd", initrd, "--append", append, "--on", "alpha");
            await ClusterBench.EventuallyAsync(async () => (await LogAsync(bench)).OkCount > 0, "the guest checks its memory");
            return bench;
        }
        catch
        {
            await bench.DisposeAsync();
            throw;
        }
    }

    /// <summary>The guest has looked through its memory once more, from its first page to its last, and found nothing.</summary>
    private static async Task ChecksOnAsync(ClusterBench bench)
    {
        long before = (await LogAsync(bench)).OkCount;
        await ClusterBench.EventuallyAsync(async () => (await LogAsync(bench)).OkCount >= before + 2, "the guest checked its memory once more");
        Assert.Empty((await LogAsync(bench)).ErrorLines);
    }

    private static async Task<HeartbeatLog> LogAsync(ClusterBench bench)
    {
        var text = new System.Text.StringBuilder();
        for (long offset = 0; ;)
        {
            var chunk = await bench.Client.ConsoleAsync(Vm, offset, CancellationToken.None);
            text.Append(chunk.Text);
            if (chunk.NextOffset == offset)
                return HeartbeatLog.Parse(text.ToString());
            offset = chunk.NextOffset;
        }
    }

    private static async Task<double> PresentBytesAsync(ClusterBench bench, string host)
    {
        string memory = Path.Combine(bench.Cluster.Record.MemoryDirectory, bench.Cluster.Record.MemoryPrefix + host);
        string ram = Assert.Single(Directory.GetFiles(memory, "ram", SearchOption.AllDirectories));
        using var stat = Process.Start(new ProcessStartInfo("stat", ["-c", "%b", ram]) { RedirectStandardOutput = true, UseShellExecute = false })!;
        string blocks = await stat.StandardOutput.ReadToEndAsync();
        await stat.WaitForExitAsync();
        return 512 * double.Parse(blocks, CultureInfo.InvariantCulture);
    }

    private static bool IsLimited(string task) => File.ReadAllText(Path.Combine(task, "stat")).Split(')')[^1].TrimStart().Split(' ')[38] == "6";

    private static string Why(string events) => events.Split('\n').FirstOrDefault(static l => l.Contains("hand-over-intended", StringComparison.Ordinal) || l.Contains("step-failed", StringComparison.Ordinal))?.Trim() ?? events;

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
