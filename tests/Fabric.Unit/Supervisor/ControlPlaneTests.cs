// The control node against model agents that obey docs/PROTOCOL.md. What is claimed of the VM (runs in one place, at which host) is asked of the model, not of the ledger.
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

public sealed class ControlPlaneTests
{
    [Theory]
    [InlineData(MigrationMode.PreCopy, MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PostCopy, MigrationMode.PostCopy)]
    [InlineData(MigrationMode.Hybrid, MigrationMode.Hybrid)]
    [InlineData(MigrationMode.Auto, MigrationMode.PreCopy)]
    public async Task A_migration_completes_in_every_mode_and_the_report_says_what_was_done(MigrationMode asked, MigrationMode done)
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        var begun = await bench.MigrateAsync("web", Beta, asked);
        var report = await bench.EndOfAsync(begun.Id);
        Assert.Equal("completed", report.State);
        Assert.Equal(done, report.Mode);
        Assert.Equal(new Epoch(2), report.Epoch);
        Assert.Equal(12.5, report.DowntimeMs);
        Assert.Equal(3, report.ResumeMs);
        Assert.True(report.Verified);
        Assert.Equal(256 * ByteSize.Mebi, report.Memory.TotalBytes);
        Assert.NotNull(report.TotalMs);
        Assert.Null(report.Progress);
        Assert.Equal("test", report.Reason);
        Assert.Equal(Beta, Assert.Single(bench.Cluster.RunningAt(VmName.Parse("web"))).Name);
        Assert.False(bench.Cluster.Agents[Alpha].Vms[VmName.Parse("web")].Machine);
    }

    [Fact]
    public async Task A_vm_moves_there_and_back_and_epochs_only_grow()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        long epoch = 1;
        foreach (var to in new[] { Beta, Gamma, Alpha, Beta })
        {
            var report = await bench.EndOfAsync((await bench.MigrateAsync("web", to)).Id);
            Assert.Equal("completed", report.State);
            Assert.Equal(++epoch, report.Epoch.Value);
        }
    }

    [Fact]
    public async Task A_host_is_described_with_its_cordon_its_machines_and_its_moves()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        bench.Gateway.Allow = static _ => false;
        var begun = await bench.MigrateAsync("web", Beta);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pushing", "it pushes");
        await bench.Control.SetCordonedAsync(Alpha, true, "new disks", default);
        await bench.Control.SetCordonedAsync(Alpha, true, "another reason", default);
        var source = (await bench.Control.GetHostAsync(Alpha, default)).Details!;
        Assert.Equal("new disks", source.Cordon?.Reason);
        Assert.Equal((VmRunState.Running, true, new Epoch(1)), source.Machines.Select(static m => (m.State, m.Owner, m.Epoch)).Single());
        Assert.Equal(new HostMove(begun.Id, VmName.Parse("web"), "out", Beta, "pushing"), Assert.Single(source.Moves));
        Assert.Equal(("node-1", bench.Cluster.Agents[Alpha].Incarnation, 256 * ByteSize.Mebi), (source.AnsweredBy, source.Incarnation, source.MemoryUsedBytes));
        Assert.NotNull(source.Since);
        Assert.Equal(new HostMove(begun.Id, VmName.Parse("web"), "in", Alpha, "pushing"), Assert.Single((await bench.Control.GetHostAsync(Beta, default)).Details!.Moves));

        await bench.RestartControlAsync();
        Assert.Equal("new disks", (await bench.Control.GetHostAsync(Alpha, default)).Details!.Cordon?.Reason);
    }

    [Fact]
    public async Task The_same_request_twice_is_one_migration()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        var request = Guid.NewGuid();
        var first = await bench.MigrateAsync("web", Beta, request: request);
        var second = await bench.MigrateAsync("web", Beta, request: request);
        await bench.EndOfAsync(first.Id);
        var third = await bench.MigrateAsync("web", Beta, request: request);
        Assert.Equal([first.Id, first.Id], new[] { second.Id, third.Id });
        Assert.Single(await bench.Control.ListMigrationsAsync(default));
    }

    [Fact]
    public async Task The_same_answer_comes_after_a_restart()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        var before = await bench.EndOfAsync((await bench.MigrateAsync("web", Beta, MigrationMode.Hybrid)).Id);
        await bench.Control.DisposeAsync();
        await bench.StartControlAsync();
        var after = await bench.Control.GetMigrationAsync(before.Id.ToString()[..31], default);
        Assert.Equal(Json(before), Json(after));

        static string Json(MigrationReport report) => System.Text.Json.JsonSerializer.Serialize(report, ApiJson.Default.MigrationReport);
    }

    [Fact]
    public async Task An_abort_in_the_push_leaves_the_vm_running_at_the_source()
    {
        await using var bench = await ControlBench.StartAsync();
        bench.Gateway.Allow = static step => step != "converge";
        await bench.CreateAsync("web", Alpha);
        var begun = await bench.MigrateAsync("web", Beta);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pushing", "it pushes");
        await bench.Control.AbortMigrationAsync(begun.Id.ToString(), "changed my mind", default);
        var report = await bench.EndOfAsync(begun.Id);
        Assert.Equal("aborted", report.State);
        Assert.Equal("changed my mind", report.Error!.Message);
        Assert.Equal(Alpha, Assert.Single(bench.Cluster.RunningAt(VmName.Parse("web"))).Name);
        Assert.Equal(DestinationPhase.Refused, bench.Cluster.Agents[Beta].Vms[VmName.Parse("web")].Destination);
    }

    [Fact]
    public async Task An_abort_after_the_hand_over_is_refused_by_safety()
    {
        await using var bench = await ControlBench.StartAsync();
        bench.Gateway.Allow = static step => step != "pulled";
        await bench.CreateAsync("web", Alpha);
        var begun = await bench.MigrateAsync("web", Beta, MigrationMode.PostCopy);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pulling", "it pulls");
        var refused = await Assert.ThrowsAsync<FabricException>(() => bench.Control.AbortMigrationAsync(begun.Id.ToString(), null, default));
        Assert.Equal(ErrorCodes.RefusedBySafety, refused.Error.Code);
        bench.Gateway.Allow = static _ => true;
        Assert.Equal("completed", (await bench.EndOfAsync(begun.Id)).State);
    }

    [Fact]
    public async Task A_lost_answer_is_asked_again_under_the_same_id_and_executed_once()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        var lost = new HashSet<CommandId>();
        bench.Gateway.AfterCommand = (_, command) =>
        {
            if (lost.Add(command.Header.Id))
                throw new FabricException(ErrorCodes.Unreachable, "the answer is lost");
        };
        var report = await bench.EndOfAsync((await bench.MigrateAsync("web", Beta, MigrationMode.PostCopy)).Id);
        Assert.Equal("completed", report.State);
        Assert.True(lost.Count >= 3);
        Assert.Equal(bench.Gateway.Sent.Select(static s => s.Command.Header.Id).Distinct().Count(), bench.Cluster.Agents.Values.Sum(static a => a.Executed));
    }

    [Fact]
    public async Task An_evacuation_cordons_moves_each_vm_once_and_ends()
    {
        await using var bench = await ControlBench.StartAsync();
        for (int i = 0; i < 5; i++)
            await bench.CreateAsync($"web-{i}", Alpha);
        int most = 0;
        bench.Gateway.AfterCommand = (_, _) => most = Math.Max(most, bench.Cluster.Agents[Alpha].Vms.Values.Count(
            static vm => vm is { OutgoingId: not null, Source: not (SourcePhase.Released or SourcePhase.PushFailed) }));
        var plan = await bench.Control.EvacuateAsync(new EvacuateRequest(Alpha, null, true, MigrationOptions.Default, null), default);
        Assert.Equal(("planned", 5), (plan.State, plan.Items.Count(static i => i.State == "planned")));
        Assert.Empty(await bench.Control.ListEvacuationsAsync(default));
        var begun = await bench.Control.EvacuateAsync(new EvacuateRequest(Alpha, null, false, MigrationOptions.Default, null), default);
        EvacuationReport report = begun;
        await bench.UntilAsync(async () => (report = await bench.Control.GetEvacuationAsync(begun.Id, default)).State != "running", "the evacuation ends");
        Assert.Equal("done", report.State);
        Assert.All(report.Items, static item => Assert.Equal("moved", item.State));
        Assert.Equal(5, (await bench.Control.ListMigrationsAsync(default)).Count);
        Assert.True(most <= 2, $"{most} migrations ran out of alpha at once");
        Assert.Equal("cordoned", (await bench.Control.ListHostsAsync(default))[0].State);
        Assert.All(Enumerable.Range(0, 5), i => Assert.NotEqual(Alpha, Assert.Single(bench.Cluster.RunningAt(VmName.Parse($"web-{i}"))).Name));
    }

    [Fact]
    public async Task An_evacuation_takes_along_what_is_on_its_way_in_and_leaves_what_is_on_its_way_out()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("out", Alpha);
        await bench.CreateAsync("in", Beta);
        bench.Gateway.Allow = static step => step != "converge";
        await bench.MigrateAsync("out", Gamma);
        await bench.MigrateAsync("in", Alpha);
        var begun = await bench.Control.EvacuateAsync(new EvacuateRequest(Alpha, null, false, MigrationOptions.Default, null), default);
        bench.Gateway.Allow = static _ => true;
        EvacuationReport report = begun;
        await bench.UntilAsync(async () => (report = await bench.Control.GetEvacuationAsync(begun.Id, default)).State != "running", "the evacuation ends");
        Assert.Equal("done", report.State);
        Assert.Equal(Gamma, Assert.Single(bench.Cluster.RunningAt(VmName.Parse("out"))).Name);
        Assert.NotEqual(Alpha, Assert.Single(bench.Cluster.RunningAt(VmName.Parse("in"))).Name);
        Assert.Equal(3, (await bench.Control.ListMigrationsAsync(default)).Count);
    }

    [Fact]
    public async Task An_evacuation_says_what_stays_and_why()
    {
        await using var bench = await ControlBench.StartAsync(null, null, ("alpha", 8 * ByteSize.Gibi), ("beta", ByteSize.Gibi));
        await bench.CreateAsync("small", Alpha);
        await bench.CreateAsync("large", Alpha, 4 * ByteSize.Gibi);
        var begun = await bench.Control.EvacuateAsync(new EvacuateRequest(Alpha, 4, false, MigrationOptions.Default, null), default);
        EvacuationReport report = begun;
        await bench.UntilAsync(async () => (report = await bench.Control.GetEvacuationAsync(begun.Id, default)).State != "running", "the evacuation ends");
        Assert.Equal("partly-done", report.State);
        var stays = Assert.Single(report.Items, static item => item.State == "stays");
        Assert.Equal("large", stays.Vm.Value);
        Assert.Contains("beta", stays.Why, StringComparison.Ordinal);
    }

    /// <summary>Gamma is the roomiest by what hosts say; what counts is what the first evacuation leaves of it, and that once.</summary>
    [Theory]
    [InlineData(7, "delta")]
    [InlineData(12, "gamma")]
    public async Task An_evacuation_is_planned_with_what_another_one_brings(int gamma, string destination)
    {
        await using var bench = await ControlBench.StartAsync(
            null, null, ("alpha", 5 * ByteSize.Gibi), ("beta", 5 * ByteSize.Gibi), ("gamma", gamma * ByteSize.Gibi), ("delta", 6 * ByteSize.Gibi));
        bench.Gateway.Allow = static step => step != "converge";
        await bench.CreateAsync("web", Alpha, 4 * ByteSize.Gibi);
        await bench.CreateAsync("db", Beta, 4 * ByteSize.Gibi);
        var first = await bench.Control.EvacuateAsync(new EvacuateRequest(Alpha, null, false, MigrationOptions.Default, null), default);
        Assert.Equal(Gamma, Assert.Single(first.Items).Destination);
        var request = new EvacuateRequest(Beta, null, true, MigrationOptions.Default, null);
        Assert.Equal(destination, Assert.Single((await bench.Control.EvacuateAsync(request, default)).Items).Destination!.Value.Value);
        await bench.UntilAsync(async () => (await bench.Control.ListMigrationsAsync(default)).Any(static m => m.State == "pushing"), "it pushes");
        await bench.UntilAsync(
            async () => (await bench.Control.ListHostsAsync(default)).Single(static h => h.Name == Gamma).MemoryFreeBytes == (gamma - 4) * ByteSize.Gibi, "gamma says that it has less");
        Assert.Equal(destination, Assert.Single((await bench.Control.EvacuateAsync(request, default)).Items).Destination!.Value.Value);
    }

    [Fact]
    public async Task A_deleted_vm_is_gone_and_its_name_is_used_again_at_a_higher_epoch()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        await bench.EndOfAsync((await bench.MigrateAsync("web", Beta)).Id);
        await bench.Control.DeleteVmAsync(VmName.Parse("web"), false, default);
        Assert.Empty(await bench.Control.ListVmsAsync(default));
        Assert.Empty(bench.Cluster.RunningAt(VmName.Parse("web")));
        Assert.Equal(new Epoch(3), (await bench.CreateAsync("web", Gamma)).Epoch);
    }
}
