using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;
using static Fabric.Unit.Supervisor.ControlNodes;

namespace Fabric.Unit.Supervisor;

/// <summary>Several control nodes: shards are shared, handed off and taken over; any node answers; what a node that is no longer the owner tries is refused.</summary>
public sealed class ControlClusterTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-nodes-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Whichever_node_is_asked_the_vm_is_made_moved_and_shown()
    {
        await using var nodes = await StartAsync(_folder);
        Node[] all = [await nodes.JoinAsync("c1"), await nodes.JoinAsync("c2"), await nodes.JoinAsync("c3")];
        string[] names = [.. Enumerable.Range(0, 9).Select(i => $"vm-{i}")];
        for (int i = 0; i < names.Length; i++)
        {
            var made = all[i % 3];
            await made.Everywhere.CreateVmAsync(new CreateVmRequest(Spec(names[i]), Alpha), default);
            var asked = all[(i + 1) % 3];
            var begun = await asked.Everywhere.MigrateAsync(new MigrateRequest(VmName.Parse(names[i]), Beta, new MigrationOptions { Mode = MigrationMode.PreCopy }, null), default);
            Assert.Equal("completed", (await EndOfAsync(all[(i + 2) % 3], begun.Id.ToString())).State);
        }

        Assert.True(names.Select(n => ShardPlacement.Of(all[0].Members.View, new ShardMap(Options.Shards).Of("vm/" + n))!.Name).Distinct().Count() > 1, "The VMs are all in one node's shards: the test shows nothing.");
        foreach (var node in all)
        {
            await UntilAsync(async () => (await node.Everywhere.ListVmsAsync(default)).Count(vm => vm.Host == Beta) == names.Length, $"{node.Name} shows all VMs at beta");
            Assert.Equal(names.Length, (await node.Everywhere.ListMigrationsAsync(default)).Count);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_migrations_of_a_node_that_leaves_or_dies_go_on_at_another(bool inGoodOrder)
    {
        await using var nodes = await StartAsync(_folder);
        Node[] all = [await nodes.JoinAsync("c1"), await nodes.JoinAsync("c2"), await nodes.JoinAsync("c3")];
        foreach (var node in all)
            node.Gateway.Allow = static step => step != "converge";
        var begun = new List<(string Vm, MigrationReport Migration)>();
        for (int i = 0; i < 8; i++)
        {
            await all[0].Everywhere.CreateVmAsync(new CreateVmRequest(Spec($"vm-{i}"), Alpha), default);
            begun.Add(($"vm-{i}", await all[0].Everywhere.MigrateAsync(new MigrateRequest(VmName.Parse($"vm-{i}"), Beta, new MigrationOptions { Mode = MigrationMode.Hybrid }, null), default)));
        }

        foreach (var (_, migration) in begun)
            await UntilAsync(async () => (await all[0].Everywhere.GetMigrationAsync(migration.Id.ToString(), default)).State == "pushing", "it pushes");
        var map = new ShardMap(Options.Shards);
        var gone = all.Single(n => n.Id == ShardPlacement.Of(all[0].Members.View, map.Of("vm/vm-0"))!.Node);
        Node[] left = [.. all.Where(n => n.Id != gone.Id)];
        if (inGoodOrder)
            await gone.LeaveAsync();
        else
            await gone.KillAsync();
        foreach (var node in left)
            node.Gateway.Allow = static _ => true;
        foreach (var (vm, migration) in begun)
        {
            Assert.Equal("completed", (await EndOfAsync(left[0], migration.Id.ToString())).State);
            Assert.Equal(Beta, Assert.Single(nodes.Cluster.RunningAt(VmName.Parse(vm))).Name);
        }

        Assert.Equal(inGoodOrder ? MemberState.Left : MemberState.Dead, left[0].Members.View.Find(gone.Id)!.State);
    }

    /// <summary>Its reading is old when another node has just made the VM; whoever deletes takes "there is none" as the end of it.</summary>
    [Fact]
    public async Task A_node_that_only_reads_a_shard_leaves_it_to_the_holder_to_say_that_a_vm_does_not_exist()
    {
        await using var nodes = await StartAsync(_folder);
        Node[] all = [await nodes.JoinAsync("c1"), await nodes.JoinAsync("c2")];
        var unknown = VmName.Parse("nobody-made-it");
        foreach (var node in all)
        {
            await node.Here.RefreshAsync(default);
            bool holds = ShardPlacement.Of(node.Members.View, new ShardMap(Options.Shards).Of("vm/" + unknown))!.Node == node.Id;
            string expected = holds ? ErrorCodes.NotFound : ErrorCodes.NotHeld;
            Assert.Equal(expected, await CodeAsync(() => node.Here.DeleteVmAsync(unknown, false, default)));
            Assert.Equal(expected, await CodeAsync(() => node.Here.MigrateAsync(new MigrateRequest(unknown, Beta, new MigrationOptions { Mode = MigrationMode.PreCopy }, null), default)));
            Assert.Equal(ErrorCodes.NotFound, await CodeAsync(() => node.Everywhere.DeleteVmAsync(unknown, false, default)));
        }
    }

    [Fact]
    public async Task An_evacuation_moves_vms_whose_shards_are_at_other_nodes()
    {
        await using var nodes = await StartAsync(_folder);
        Node[] all = [await nodes.JoinAsync("c1"), await nodes.JoinAsync("c2"), await nodes.JoinAsync("c3")];
        for (int i = 0; i < 6; i++)
            await all[i % 3].Everywhere.CreateVmAsync(new CreateVmRequest(Spec($"vm-{i}"), Alpha), default);
        var evacuation = await all[1].Everywhere.EvacuateAsync(new EvacuateRequest(Alpha, 3, false, MigrationOptions.Default, null), default);
        EvacuationReport? last = null;
        await UntilAsync(async () => (last = await all[2].Everywhere.GetEvacuationAsync(evacuation.Id, default)).State != "running", () => $"the evacuation ends, it is: {Told(last)}");
        Assert.True(last!.State == "done", Told(last));
        foreach (var node in all)
        {
            IReadOnlyList<VmReport> vms = [];
            IReadOnlyList<ShardReport> shards = [];
            await UntilAsync(
                async () =>
                {
                    shards = await node.Everywhere.ListShardsAsync(default);
                    return (vms = await node.Everywhere.ListVmsAsync(default)).All(static vm => vm.Host != Alpha);
                },
                () => $"{node.Name} shows alpha empty: {string.Join("; ", vms.Select(vm => $"{vm.Name} at {vm.Host} {vm.State} epoch {vm.Epoch} shard {new ShardMap(Options.Shards).Of("vm/" + vm.Name).Value}"))}, {string.Join("; ", shards)}");
            Assert.True((await node.Everywhere.ListHostsAsync(default)).Single(static h => h.Name == Alpha).Cordoned);
        }
    }

    private static string Told(EvacuationReport? report) => report is null ? "unknown" : $"{report.State}: {string.Join("; ", report.Items.Select(static i => $"{i.Vm} {i.State} {i.Why}"))}";

    [Fact]
    public async Task A_node_that_comes_takes_its_shards_over_in_good_order()
    {
        await using var nodes = await StartAsync(_folder, "c1");
        var first = await nodes.JoinAsync("c2");
        for (int i = 0; i < 8; i++)
            await first.Everywhere.CreateVmAsync(new CreateVmRequest(Spec($"vm-{i}"), Alpha), default);
        var later = await nodes.JoinAsync("c3");
        for (int i = 0; i < 8; i++)
        {
            var begun = await later.Everywhere.MigrateAsync(new MigrateRequest(VmName.Parse($"vm-{i}"), Gamma, new MigrationOptions { Mode = MigrationMode.PreCopy }, null), default);
            Assert.Equal("completed", (await EndOfAsync(first, begun.Id.ToString())).State);
        }
    }

    [Fact]
    public async Task A_request_that_is_repeated_at_another_node_is_executed_once()
    {
        await using var nodes = await StartAsync(_folder);
        Node[] all = [await nodes.JoinAsync("c1"), await nodes.JoinAsync("c2")];
        await all[0].Everywhere.CreateVmAsync(new CreateVmRequest(Spec("web"), Alpha), default);
        var request = new MigrateRequest(VmName.Parse("web"), Beta, new MigrationOptions { Mode = MigrationMode.PreCopy }, Guid.NewGuid());
        var (one, other) = (await all[0].Everywhere.MigrateAsync(request, default), await all[1].Everywhere.MigrateAsync(request, default));
        Assert.Equal(one.Id, other.Id);
        Assert.Equal("completed", (await EndOfAsync(all[1], one.Id.ToString())).State);
        Assert.Equal(one.Id, (await all[1].Everywhere.MigrateAsync(request, default)).Id);
    }
}
