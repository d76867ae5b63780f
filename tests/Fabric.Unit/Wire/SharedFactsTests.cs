using System.Reflection;
using System.Text.Json;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Unit.Migration;
using Fabric.Wire.Agent;
using Xunit;

namespace Fabric.Unit.Wire;

/// <summary>A control node keeps the facts that have not changed, and takes every one that has.</summary>
public sealed class SharedFactsTests
{
    private static readonly VmSpec Spec = new()
    {
        Name = VmName.Parse("web"),
        MemoryBytes = ByteSize.Gibi,
        Kernel = "/k",
        Initrd = "/i",
        Append = "quiet",
        Workload = "idle:1",
        Disks = [new DiskSpec("/a", true), new DiskSpec("/b", false)],
    };

    [Fact]
    public void What_has_not_changed_is_the_earlier_object()
    {
        var earlier = Read(Facts(Fact("a"), Fact("b"), Fact("d")));
        var later = Read(Facts(Fact("a"), Fact("b") with { RunEpoch = new Epoch(9) }, Fact("c"), Fact("d")));
        var shared = later.Sharing(earlier);
        Assert.Equal(later.Vms, shared.Vms);
        Assert.Same(earlier.Vms[0], shared.Vms[0]);
        Assert.Same(earlier.Vms[2], shared.Vms[3]);
        Assert.Equal(new Epoch(9), shared.Vms[1].RunEpoch);
        Assert.Same(earlier.Vms[1].Spec, shared.Vms[1].Spec);
    }

    /// <summary>An agent may be of another make, or hostile: the order of its answer decides what is shared, never what is said.</summary>
    [Fact]
    public void The_order_changes_nothing_about_what_is_said()
    {
        var random = new Random(1);
        for (int i = 0; i < 200; i++)
        {
            var (earlier, later) = (Some(random), Some(random));
            Assert.Equal(later.Vms, later.Sharing(earlier).Vms);
        }
    }

    [Fact]
    public void Specs_are_equal_by_their_text_and_differ_in_every_field()
    {
        Assert.Equal(Spec, Spec with { Disks = [.. Spec.Disks], Nics = [.. Spec.Nics] });
        Assert.Equal(Spec.GetHashCode(), (Spec with { Disks = [.. Spec.Disks] }).GetHashCode());
        VmSpec[] others =
        [
            Spec with { Name = VmName.Parse("db") }, Spec with { Machine = MachineKind.Synthetic }, Spec with { Accelerator = Accelerator.Kvm }, Spec with { MemoryBytes = ByteSize.Mebi },
            Spec with { Vcpus = 2 }, Spec with { Kernel = null }, Spec with { Initrd = null }, Spec with { Append = null }, Spec with { Workload = null }, Spec with { Disks = [new DiskSpec("/a", true)] },
            Spec with { Nics = [new NicSpec("br0")] }, Spec with { Balloon = new BalloonSpec() },
        ];
        Assert.All(others, static other => Assert.NotEqual(Spec, other));
        // PageCount follows from MemoryBytes: a new field needs a line above, and one in Equals.
        Assert.Equal(others.Length, typeof(VmSpec).GetProperties(BindingFlags.Public | BindingFlags.Instance).Length - 1);
    }

    private static HostFacts Some(Random random) =>
        Read(Facts([.. Enumerable.Range(0, random.Next(8)).Select(_ => Fact(((char)('a' + random.Next(6))).ToString()) with { RunEpoch = new Epoch(random.Next(2)) })]));

    private static VmFact Fact(string name) => new(
        Spec with { Name = VmName.Parse(name) }, new Epoch(4), true, VmRunState.Running, 7,
        new SourceFact(Samples.Plan.Id, SourcePhase.Pushing, new Epoch(5), MigrationMode.PreCopy, new MigrationStats { Rounds = 3 }), null);

    private static HostFacts Facts(params VmFact[] vms) => new(HostName.Parse("alpha"), Samples.Life, 1, new DataEndpoint("127.0.0.1", 7000), 5, vms);

    private static HostFacts Read(HostFacts facts) => JsonSerializer.Deserialize(JsonSerializer.Serialize(facts, AgentJson.Default.HostFacts), AgentJson.Default.HostFacts)!;
}
