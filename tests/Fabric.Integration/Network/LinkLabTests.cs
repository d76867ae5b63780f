using System.Globalization;
using System.Text.RegularExpressions;
using Fabric.Benchmarks.Lab;
using Fabric.Core;
using Fabric.Integration.EndToEnd;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.Network;

/// <summary>The laboratory itself: what it promises is asked of the kernel's own counters and names, not of the laboratory.</summary>
[Collection("qemu")]
public sealed partial class LinkLabTests(ITestOutputHelper output)
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan Stretch = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// All pages of a whole migration cross the source's link, and no faster than it is. The proof of "no faster" would hold for a laboratory that nothing crosses: the
    /// counter must have grown by all of the guest's pages, and nearly as fast as the link allows.
    /// </summary>
    [SkippableFact]
    public async Task A_migration_crosses_the_link_at_its_rate()
    {
        Skip.IfNot(LinkLab.WhyNot is null, LinkLab.WhyNot);
        var shape = new LinkShape(400_000_000);
        await using var lab = await LabCluster.StartAsync(hosts: 2, shape, TimeProvider.System, CancellationToken.None);
        var (name, beta) = (VmName.Parse("wide"), HostName.Parse("beta"));
        var spec = new VmSpec { Name = name, Machine = MachineKind.Synthetic, MemoryBytes = 128 * ByteSize.Mebi, Workload = "oracle:7:128M:100000" };
        await lab.Client.CreateVmAsync(new CreateVmRequest(spec, HostName.Parse("alpha")), CancellationToken.None);
        await ClusterBench.EventuallyAsync(async () => await OperationsAsync(lab, name) >= spec.PageCount, "the guest has written every page");
        long before = lab.Lab.BytesOf("alpha").Out;
        var moving = lab.MoveAsync(name, beta, new MigrationOptions(MigrationMode.PostCopy), CancellationToken.None);
        var samples = new List<(long At, long Bytes)>();
        do
        {
            samples.Add((TimeProvider.System.GetTimestamp(), lab.Lab.BytesOf("alpha").Out - before));
            await Task.WhenAny(moving, Task.Delay(Period, TimeProvider.System));
        }
        while (!moving.IsCompleted);
        var report = await moving;
        long crossed = lab.Lab.BytesOf("alpha").Out - before;
        Assert.InRange(crossed, report.Memory.WireBytes, report.Memory.WireBytes * 1.05);
        Assert.True(report.Memory.WireBytes > 100 * ByteSize.Mebi, $"Only {report.Memory.WireBytes} bytes were to be sent.");

        // Between a fifth and four fifths of the way: neither the bucket that is full at first nor the end counts. The link's rate is what most tenths of a second carry: a machine
        // that stands still for 0.2 s (seen: agents stopped for 0.15 s) takes a tenth from the mean and nothing from them.
        double[] rates = [.. Rates([.. samples.Where(s => s.Bytes > crossed / 5 && s.Bytes < crossed * 4 / 5)])];
        (double median, double mean) = (rates.Order().ElementAt(rates.Length / 2), rates.Average());
        string each = string.Join(' ', rates.Select(r => (r / 1e6).ToString("0", CultureInfo.InvariantCulture)));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{crossed} bytes crossed, {report.Memory.WireBytes} reported, {median / 1e6:0} Mb/s of {shape.BitsPerSecond / 1e6:0} (mean {mean / 1e6:0}): {each}"));
        Assert.InRange(median, 0.9 * shape.BitsPerSecond, 1.02 * shape.BitsPerSecond);
        Assert.InRange(mean, 0.75 * shape.BitsPerSecond, 1.02 * shape.BitsPerSecond);
    }

    /// <summary>In bit/s, of stretches of a tenth of a second and more.</summary>
    private static IEnumerable<double> Rates((long At, long Bytes)[] samples)
    {
        var from = samples[0];
        foreach (var sample in samples)
        {
            var took = TimeProvider.System.GetElapsedTime(from.At, sample.At);
            if (took >= Stretch)
            {
                yield return (sample.Bytes - from.Bytes) * 8 / took.TotalSeconds;
                from = sample;
            }
        }
    }

    private static async Task<long> OperationsAsync(LabCluster lab, VmName name)
    {
        string text = (await lab.Client.ConsoleAsync(name, 0, CancellationToken.None)).Text;
        var last = Operations().Matches(text).LastOrDefault();
        return last is null ? 0 : long.Parse(last.Groups["ops"].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"ops (?<ops>\d+)\n", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex Operations();

    /// <summary>Two at a time must not meet; and what an owner left that died (here: one that only forgets its lock) goes with the next laboratory.</summary>
    [SkippableFact]
    public void Laboratories_have_names_of_their_own_and_leave_nothing()
    {
        Skip.IfNot(LinkLab.WhyNot is null, LinkLab.WhyNot);
        string[] before = Spaces();
        using (var one = LinkLab.Build(["alpha"], null))
        {
            using var two = LinkLab.Build(["alpha"], LinkShape.Gigabit);
            Assert.NotEqual(one.Network, two.Network);
            Assert.Equal(before.Length + 4, Spaces().Length);
        }

        Assert.Equal(before, Spaces());
    }

    /// <summary>Of these tests alone: other laboratories of this machine may come and go.</summary>
    private static string[] Spaces() => Directory.Exists("/run/netns") ? [.. Directory.GetFiles("/run/netns", "flab*").Order(StringComparer.Ordinal)] : [];
}
