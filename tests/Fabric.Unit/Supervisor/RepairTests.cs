// Repair against model agents whose world was changed behind the journal's back. That nobody was told anything is asked of the gateway, which keeps every command.
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

public sealed class RepairTests
{
    private static readonly VmName Web = VmName.Parse("web");

    [Fact]
    public async Task What_the_hosts_and_the_journal_agree_on_stays()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        int sent = bench.Gateway.Sent.Count;
        var report = await RepairAsync(bench);
        Assert.Equal(("agrees", Alpha, new Epoch(1)), (report.Outcome, report.Owner, report.Epoch));
        Assert.Equal([(Alpha, true, VmRunState.Running), (Beta, false, null), (Gamma, false, (VmRunState?)null)], report.Hosts.Select(static h => (h.Host, h.Owner, h.State)));
        Assert.Equal(sent, bench.Gateway.Sent.Count);
    }

    [Fact]
    public async Task A_vm_at_another_host_is_adopted_and_can_be_moved_on()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        Put(bench, from: Alpha, to: Beta, epoch: 4);
        int sent = bench.Gateway.Sent.Count;
        var report = await RepairAsync(bench);
        Assert.Equal(("adopted", Beta, new Epoch(4)), (report.Outcome, report.Owner, report.Epoch));
        Assert.Equal(sent, bench.Gateway.Sent.Count);
        var written = (await bench.Control.EventsAsync("", 1000, default)).Items.Single(static e => e.Kind == "vm-repaired");
        Assert.Equal("the store was restored", written.Data.GetProperty("reason").GetString());

        // Another life reads the same, and the next epoch is above the adopted one.
        await bench.RestartControlAsync();
        Assert.Equal(Beta, (await bench.Control.ListVmsAsync(default)).Single().Host);
        var moved = await bench.EndOfAsync((await bench.MigrateAsync("web", Gamma)).Id);
        Assert.Equal(("completed", new Epoch(5)), (moved.State, moved.Epoch));
    }

    [Fact]
    public async Task A_vm_that_the_journal_has_forgotten_is_adopted()
    {
        await using var bench = await ControlBench.StartAsync();
        lock (bench.Cluster.Gate)
        {
            bench.Cluster.Agents[Beta].Vms[Web] = new ModelVm(Spec("web")) { RunEpoch = new Epoch(3), Owner = true, Running = true };
            bench.Cluster.Agents[Beta].Touch();
        }

        Assert.Equal("adopted", (await RepairAsync(bench)).Outcome);
        Assert.Equal(Beta, (await bench.Control.ListVmsAsync(default)).Single().Host);
        await bench.Control.DeleteVmAsync(Web, force: false, default);
        Assert.Empty(bench.Cluster.Agents[Beta].Vms);
    }

    [Theory]
    [InlineData("none", "No host has the right")]
    [InlineData("two", "2 hosts say that they may run VM 'web': 'alpha', 'beta'")]
    [InlineData("silent", "Not every host answers: 'gamma'")]
    [InlineData("older", "later than what 'beta' says (run epoch 1)")]
    [InlineData("unknown", "No host has the right")]
    public async Task What_is_not_at_exactly_one_host_is_refused_and_nothing_changes(string world, string expected)
    {
        await using var bench = await ControlBench.StartAsync();
        if (world != "unknown")
            await bench.CreateAsync("web", Alpha);
        if (world == "older")
            await bench.EndOfAsync((await bench.MigrateAsync("web", Gamma)).Id);
        switch (world)
        {
            case "none":
                Remove(bench, Alpha);
                break;
            case "two":
                lock (bench.Cluster.Gate)
                    bench.Cluster.Agents[Beta].Vms[Web] = new ModelVm(Spec("web")) { RunEpoch = new Epoch(9), Owner = true, Running = true };
                break;
            case "silent":
                bench.Gateway.Silence(Gamma, silent: true);
                break;
            case "older":
                Put(bench, from: Gamma, to: Beta, epoch: 1);
                break;
        }

        int sent = bench.Gateway.Sent.Count;
        var events = (await bench.Control.EventsAsync("", 1000, default)).Items.Count;
        var report = await RepairAsync(bench);
        Assert.Equal("refused", report.Outcome);
        Assert.Equal(ErrorCodes.RefusedBySafety, report.Error!.Code);
        Assert.Contains(expected, report.Error.Message, StringComparison.Ordinal);
        Assert.Equal(3, report.Hosts.Count);
        Assert.Equal(world == "silent" ? 2 : 3, report.Hosts.Count(static h => h.Answered));
        Assert.Equal(sent, bench.Gateway.Sent.Count);
        Assert.Equal(events, (await bench.Control.EventsAsync("", 1000, default)).Items.Count);
    }

    [Fact]
    public async Task What_is_left_of_a_deleted_vm_is_not_adopted()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Gateway.Silence(Alpha, silent: true);
        await bench.UntilAsync(async () => (await bench.Control.ListHostsAsync(default)).Any(static h => h.State == "unreachable"), "alpha is missed");
        await bench.Control.DeleteVmAsync(Web, force: true, default);
        bench.Gateway.AfterCommand = static (_, _) => throw new FabricException(ErrorCodes.Unreachable, "the order to remove it is lost");
        bench.Gateway.Silence(Alpha, silent: false);
        var report = await RepairAsync(bench);
        Assert.Equal("refused", report.Outcome);
        Assert.True(report.Error!.Message.Contains("was deleted", StringComparison.Ordinal) || report.Error.Message.Contains("No host", StringComparison.Ordinal), report.Error.Message);
    }

    [Fact]
    public async Task A_migration_in_the_way_is_given_up_where_that_is_allowed()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Gateway.Allow = static _ => false; // the push does not get on
        var begun = await bench.MigrateAsync("web", Beta);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pushing", "it pushes");
        lock (bench.Cluster.Gate)
        {
            // The journal is older than the hosts: they have finished another move since.
            bench.Cluster.Agents[Alpha].Vms[Web].Owner = false;
            bench.Cluster.Agents[Gamma].Vms[Web] = new ModelVm(Spec("web")) { RunEpoch = new Epoch(6), Owner = true, Running = true };
            bench.Cluster.Agents[Gamma].Touch();
        }

        var report = await RepairAsync(bench);
        Assert.Equal(("adopted", Gamma, begun.Id), (report.Outcome, report.Owner, report.Ended));
        Assert.Equal("aborted", (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State);
        Assert.Equal(Gamma, (await bench.Control.ListVmsAsync(default)).Single().Host);
    }

    [Fact]
    public async Task A_migration_that_cannot_be_given_up_makes_a_repair_refuse()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Gateway.Allow = static step => !step.Contains("pull", StringComparison.Ordinal) && step != "drained";
        var begun = await bench.MigrateAsync("web", Beta, MigrationMode.PostCopy);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pulling", "it pulls");
        var report = await RepairAsync(bench);
        Assert.Equal("refused", report.Outcome);
        Assert.Contains("pulling", report.Error!.Message, StringComparison.Ordinal);
        Assert.Equal("pulling", (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State);
    }

    private static Task<RepairReport> RepairAsync(ControlBench bench) => bench.Control.RepairAsync(Web, "the store was restored", default);

    private static void Remove(ControlBench bench, HostName host)
    {
        lock (bench.Cluster.Gate)
        {
            bench.Cluster.Agents[host].Vms.Remove(Web);
            bench.Cluster.Agents[host].Touch();
        }
    }

    private static void Put(ControlBench bench, HostName from, HostName to, long epoch)
    {
        Remove(bench, from);
        lock (bench.Cluster.Gate)
        {
            bench.Cluster.Agents[to].Vms[Web] = new ModelVm(Spec("web")) { RunEpoch = new Epoch(epoch), Owner = true, Running = true };
            bench.Cluster.Agents[to].Touch();
        }
    }
}
