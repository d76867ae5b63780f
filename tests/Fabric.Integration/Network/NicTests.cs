using System.Globalization;
using Fabric.Benchmarks.ClientGap;
using Fabric.Benchmarks.Lab;
using Fabric.Core;
using Fabric.Integration.EndToEnd;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.Network;

/// <summary>
/// VMs with network cards, on hosts in network namespaces of their own. A client in a third namespace holds TCP connections whose numbers must come unbroken; the taps are looked
/// for among the kernel's interfaces.
/// </summary>
public sealed class NicTests(ITestOutputHelper output)
{
    private static readonly HostName Alpha = HostName.Parse("alpha");
    private static readonly HostName Beta = HostName.Parse("beta");

    /// <summary>Connections live on, and nothing of the laboratory is left. How short the gaps are is the benchmark's to say (client-gap): here only that none is a lost connection's.</summary>
    [SkippableFact]
    public async Task Connections_into_a_guest_live_through_a_move_in_every_mode()
    {
        var options = new ClientGapOptions { Guest = Guest("server"), Moves = 3, Shape = LinkShape.Gigabit };
        var result = await new ClientGapRun(options, TimeProvider.System, output.WriteLine).RunAsync(CancellationToken.None);
        Assert.Empty(result.Left);
        Assert.True(result.LateFrames > 0, "No frame came to a source after the guest's stop: the streams were not under way, or nobody sends such frames on.");
        Assert.Equal(options.Moves * GuestStream.Kinds.Count, result.Samples.Count);
        Assert.All(result.Samples, s => Assert.True(s.GapMs < 3000, string.Create(CultureInfo.InvariantCulture, $"the {s.Stream} stream stood for {s.GapMs:0} ms in the {s.Mode} move")));
    }

    [SkippableFact]
    public async Task A_tap_lives_as_long_as_its_machine_and_a_host_without_the_bridge_is_refused_in_time()
    {
        const string bridge = "guests0";
        var spec = Guest("web") with { Nics = [new NicSpec(bridge)] };
        await using var lab = await LabCluster.StartAsync(hosts: 2, shape: null, TimeProvider.System, CancellationToken.None);
        var refused = await Assert.ThrowsAsync<FabricException>(() => lab.Client.CreateVmAsync(new CreateVmRequest(spec, Alpha), CancellationToken.None));
        Assert.Contains($"'{bridge}'", refused.Message, StringComparison.Ordinal);
        lab.Lab.AddBridge("alpha", bridge);
        var born = await lab.Client.CreateVmAsync(new CreateVmRequest(spec, Alpha), CancellationToken.None);
        string tap = Assert.Single(Taps(lab, "alpha"));

        // The destination says no while it prepares: the VM was never stopped.
        var failed = await Assert.ThrowsAsync<FabricException>(() => lab.MoveAsync(spec.Name, Beta, new MigrationOptions(MigrationMode.PreCopy), CancellationToken.None));
        Assert.Contains($"'{bridge}'", failed.Message, StringComparison.Ordinal);
        var stays = await lab.Client.VmAsync(spec.Name, CancellationToken.None);
        Assert.Equal(("alpha", born.ProcessId), (stays.Host?.Value, stays.ProcessId));
        Assert.Empty(Taps(lab, "beta"));

        // An agent that is killed takes no tap along.
        await lab.Cluster.KillAsync("alpha", CancellationToken.None);
        Assert.Equal(tap, Assert.Single(Taps(lab, "alpha")));
        await lab.Cluster.StartAsync("alpha", CancellationToken.None);
        await ClusterBench.EventuallyAsync(
            async () => (await lab.Client.HostsAsync(CancellationToken.None)).All(h => h.State == "ready"), "alpha is back");
        Assert.Equal(tap, Assert.Single(Taps(lab, "alpha")));
        lab.Lab.AddBridge("beta", bridge);
        await lab.MoveAsync(spec.Name, Beta, new MigrationOptions(MigrationMode.PostCopy), CancellationToken.None);
        await ClusterBench.EventuallyAsync(() => Task.FromResult(Taps(lab, "alpha").Count == 0), "the source's tap is gone");
        Assert.Single(Taps(lab, "beta"));
        await lab.Client.DeleteVmAsync(spec.Name, force: false, CancellationToken.None);
        Assert.Empty(Taps(lab, "beta"));
    }

    private static List<string> Taps(LabCluster lab, string host) => [.. lab.Lab.InterfacesOf(host).Where(static name => name.StartsWith("fab", StringComparison.Ordinal))];

    private static VmSpec Guest(string name)
    {
        Skip.IfNot(LinkLab.WhyNot is null, LinkLab.WhyNot);
        ClusterBench.RequireQemu();
        string? kernel = Environment.GetEnvironmentVariable("FABRIC_GUEST_KERNEL");
        string? initrd = Environment.GetEnvironmentVariable("FABRIC_GUEST_INITRD");
        Skip.If(kernel is null || initrd is null, "no test guest: guests/build.sh builds it, and FABRIC_GUEST_KERNEL and FABRIC_GUEST_INITRD name it");
        return new VmSpec
        {
            Name = VmName.Parse(name),
            Accelerator = Accelerator.Tcg,
            MemoryBytes = 128 * ByteSize.Mebi,
            Kernel = kernel,
            Initrd = initrd,
            Append = "fabric.workload=oracle fabric.mb=4 fabric.rate=500",
        };
    }
}
