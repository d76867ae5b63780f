// Hosts that are silent when something ends, and control nodes that have not heard everything yet. The model agents refuse what real ones refuse, so whatever is
// left over at the end was left over by the control node.
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

public sealed class AbsentHostTests
{
    private static readonly VmName Web = VmName.Parse("web");

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_lost_vm_is_deleted_at_both_hosts_also_after_a_restart(bool restart)
    {
        await using var bench = await ControlBench.StartAsync();
        await LoseAsync(bench);
        Assert.True(bench.Cluster.Agents[Alpha].Vms[Web].Machine); // kept until somebody deletes it
        if (restart)
            await bench.RestartControlAsync();
        await bench.Control.DeleteVmAsync(Web, true, default);
        Assert.All(bench.Cluster.Agents.Values, static agent => Assert.Empty(agent.Vms));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_host_that_was_silent_at_a_deletion_by_force_is_told_when_it_comes_back(bool restart)
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Gateway.Silence(Alpha, true);
        await bench.Control.DeleteVmAsync(Web, true, default);
        Assert.Empty(await bench.Control.ListVmsAsync(default));
        Assert.Single(bench.Cluster.RunningAt(Web));

        // Its name may be used again meanwhile; what is made then is nobody's leftover.
        await bench.CreateAsync("web", Beta);
        if (restart)
            await bench.RestartControlAsync(); // the new life's gateway hears alpha
        else
            bench.Gateway.Silence(Alpha, false);
        await bench.UntilAsync(() => Task.FromResult(!bench.Cluster.Agents[Alpha].Vms.ContainsKey(Web)), "alpha is told");
        Assert.Equal(Beta, Assert.Single(bench.Cluster.RunningAt(Web)).Name);
    }

    /// <summary>kill -9 of the control node, and the first thing that its next life hears is the deletion: no host has registered yet.</summary>
    [Fact]
    public async Task A_deletion_by_force_waits_for_hosts_that_have_not_registered_yet()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Memory.Refuse = static holder => holder != "another";
        var hosts = new HostRegistry(TimeProvider.System);
        var askedTwice = new TaskCompletionSource();
        int asked = 0;
        var gateway = new ModelGateway(bench.Cluster)
        {
            Knows = host =>
            {
                bool known = hosts.Find(host) is not null;
                if (!known && ++asked == 2)
                    askedTwice.SetResult();
                return known;
            },
        };
        // On a busy machine a fraction of a second may pass before the registration is heard: by then the host must not count as away.
        await using var next = bench.NewControl(hosts, "another", bench.Options with { ForceAfter = TimeSpan.FromSeconds(30) }, gateway);
        await next.StartAsync(default);
        var deleting = next.DeleteVmAsync(Web, true, default);
        await Task.WhenAny(askedTwice.Task, deleting).WaitAsync(TimeSpan.FromSeconds(10));
        Assert.False(deleting.IsCompleted, $"It did not wait: {deleting.Status}, {deleting.Exception?.InnerException?.Message}");
        Assert.Single(bench.Cluster.RunningAt(Web));
        await next.RegisterHostAsync(Registration(bench.Cluster.Agents[Alpha]), default);
        await deleting.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Empty(bench.Cluster.RunningAt(Web));
    }

    [Fact]
    public async Task A_source_that_was_silent_when_it_should_have_been_released_is_released_when_it_comes_back()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Gateway.Allow = static step => step != "pulled";
        var begun = await bench.MigrateAsync("web", Beta, MigrationMode.PostCopy);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pulling", "it pulls");
        bench.Gateway.Silence(Alpha, true);
        bench.Gateway.Allow = static _ => true;
        Assert.Equal("completed", (await bench.EndOfAsync(begun.Id)).State);
        Assert.True(bench.Cluster.Agents[Alpha].Vms[Web].Machine);
        bench.Gateway.Silence(Alpha, false);
        await bench.UntilAsync(() => Task.FromResult(!bench.Cluster.Agents[Alpha].Vms[Web].Machine), "alpha is released");
        Assert.Equal(Beta, Assert.Single(bench.Cluster.RunningAt(Web)).Name);
    }

    [Fact]
    public async Task A_destination_that_was_silent_when_its_preparation_was_undone_is_told_to_refuse()
    {
        await using var bench = await ControlBench.StartAsync();
        bench.Gateway.Allow = static step => step != "converge";
        await bench.CreateAsync("web", Alpha);
        var begun = await bench.MigrateAsync("web", Beta);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pushing", "it pushes");
        bench.Gateway.Silence(Beta, true);
        Assert.Equal("failed", (await bench.EndOfAsync(begun.Id)).State);
        Assert.True(bench.Cluster.Agents[Beta].Vms[Web].Machine);
        bench.Gateway.Silence(Beta, false);
        await bench.UntilAsync(() => Task.FromResult(!bench.Cluster.Agents[Beta].Vms[Web].Machine), "beta refuses");
        Assert.Equal(Alpha, Assert.Single(bench.Cluster.RunningAt(Web)).Name);
    }

    [Fact]
    public async Task A_node_without_its_shards_does_not_say_that_something_does_not_exist()
    {
        await using var bench = await ControlBench.StartAsync();
        string unknown = new MigrationId(Guid.NewGuid()).ToString();
        Assert.Equal(ErrorCodes.NotFound, await CodeAsync(() => bench.Control.GetMigrationAsync(unknown, default)));
        await using var unread = bench.NewControl(new HostRegistry(TimeProvider.System)); // not started: it holds nothing
        Assert.Equal(ErrorCodes.Unreachable, await CodeAsync(() => unread.GetMigrationAsync(unknown, default)));
        Assert.Equal(ErrorCodes.Unreachable, await CodeAsync(() => unread.GetEvacuationAsync("0123", default)));
        Assert.Equal(ErrorCodes.NotHeld, await CodeAsync(() => unread.DeleteVmAsync(Web, true, default)));
    }

    [Fact]
    public void What_a_node_needed_to_get_its_shards_is_not_the_silence_of_hosts()
    {
        var time = new Fabric.Actors.Testing.ManualTime();
        var board = new Board(time, TimeSpan.FromSeconds(3));
        time.Advance(TimeSpan.FromSeconds(30));
        Assert.Equal(time.GetUtcNow(), board.Host(Alpha).UnreachableSince);
        Assert.Equal(ErrorCodes.Unreachable, board.UnknownHost(Alpha).Code);
        board.Open();
        var opened = time.GetUtcNow();
        time.Advance(TimeSpan.FromSeconds(4));
        Assert.Equal(opened, board.Host(Alpha).UnreachableSince);
        Assert.Equal(ErrorCodes.NotFound, board.UnknownHost(Alpha).Code);
    }

    private static async Task LoseAsync(ControlBench bench)
    {
        bench.Gateway.Allow = static step => step != "pulled";
        await bench.CreateAsync("web", Alpha);
        var begun = await bench.MigrateAsync("web", Beta, MigrationMode.PostCopy);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pulling", "it pulls");
        lock (bench.Cluster.Gate)
        {
            var vm = bench.Cluster.Agents[Beta].Vms[Web];
            (vm.Destination, vm.Running, vm.Machine, vm.Owner) = (DestinationPhase.Lost, false, false, false);
            bench.Cluster.Agents[Beta].Touch();
        }

        Assert.Equal("lost", (await bench.EndOfAsync(begun.Id)).State);
    }
}
