using System.Net;
using System.Net.Http.Json;
using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Chaos.Store;

/// <summary>
/// PostgreSQL crashes in the middle of a migration and comes back with the files of a moment before: what was decided since is forgotten, and epochs that agents have obeyed
/// are given out again. How it proves its claim: the copy is made and the crash comes at exact events, at which the control node is held; the agents' ledgers know
/// more than the journal from then on. A watch sees a guest that writes at one host after it ran at the other; in the end one machine runs, its memory obeys the guest's own rule,
/// both agents agree on the owner, and the cluster has another id.
/// </summary>
[Collection(TrioCollection.Name)]
public sealed class StoreRestoredTests(TrioCluster cluster, ITestOutputHelper output)
{
    private static readonly TimeSpan Within = TimeSpan.FromSeconds(200);
    private static readonly TimeSpan StepWithin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan EndWithin = TimeSpan.FromSeconds(60);

    [SkippableTheory]
    [InlineData("hand-over-intended", "handed-over", MigrationMode.PreCopy)]
    [InlineData("hand-over-intended", "handed-over", MigrationMode.PostCopy)]
    [InlineData("destination-prepared", "pull-completed", MigrationMode.PostCopy)]
    [InlineData("migration-planned", "source-released", MigrationMode.PreCopy)]
    [InlineData("migration-planned", "push-started", MigrationMode.PreCopy)]
    public Task What_the_journal_forgot_happens_once(string copiedBefore, string lostAfter, MigrationMode mode) =>
        cluster.RunAsync(Within, output.WriteLine, cancellation => RunAsync(copiedBefore, lostAfter, mode, cancellation));

    /// <summary>The copy is older than the request: the journal has the VM at the source and never heard of a migration. An operator's repair takes the hosts' word.</summary>
    [SkippableFact]
    public Task What_the_journal_never_heard_of_is_adopted_by_a_repair() => cluster.RunAsync(Within, output.WriteLine, RepairAsync);

    private async Task RunAsync(string copiedBefore, string lostAfter, MigrationMode mode, CancellationToken cancellation)
    {
        var (vm, outside) = await MakeVmAsync(cancellation);
        await using var watch = new RunWatch(outside.Written, Step.Source, Step.Destination);
        var before = await cluster.ClusterIdAsync(cancellation);
        var id = await CrashAsync(vm, mode, copiedBefore, lostAfter, cancellation);
        await CompletedAsync(id, cancellation);
        await CheckAsync(outside, watch, vm, before, cancellation);
        await cluster.DeleteAsync(vm, force: false, cancellation);
    }

    private async Task RepairAsync(CancellationToken cancellation)
    {
        var (vm, outside) = await MakeVmAsync(cancellation);
        await using var watch = new RunWatch(outside.Written, Step.Source, Step.Destination);
        var before = await cluster.ClusterIdAsync(cancellation);
        await CrashAsync(vm, MigrationMode.PreCopy, null, "source-released", cancellation);
        await Patience.UntilAsync("the repair adopts what the hosts say", EndWithin, async () =>
        {
            var report = await cluster.AskAsync((client, late) => client.RepairAsync(vm, "the database was put back", late), cancellation);
            return report is { Outcome: "adopted" or "agrees" } && report.Owner?.Value == Step.Destination ? null : $"It says '{report.Outcome}': {report.Error}";
        }, cancellation);
        await CheckAsync(outside, watch, vm, before, cancellation);

        // And on from there: the epochs that the journal never heard of are not used again.
        var back = new MigrateRequest(vm, HostName.Parse(Step.Source), new MigrationOptions(MigrationMode.PreCopy), Guid.NewGuid());
        var id = await cluster.MigrateAsync(back, EndWithin, cancellation);
        await CompletedAsync(id, cancellation);
        await cluster.DeleteAsync(vm, force: false, cancellation);
    }

    private async Task<(VmName Vm, Outside Outside)> MakeVmAsync(CancellationToken cancellation)
    {
        var vm = VmName.Parse(cluster.NextVm());
        var outside = new Outside(cluster.Local, vm);
        await Patience.UntilAsync("hosts are ready and nodes hold their shards", StepWithin, () => cluster.UnsettledAsync(cancellation), cancellation);
        await cluster.CreateAsync(cluster.BootBlockVm(vm), cancellation);
        await GrowsAsync(outside, Step.Source, cancellation);
        return (vm, outside);
    }

    /// <summary>Moves the VM, crashes the database after one event, and starts it with the files from before another (null: from before the request).</summary>
    private async Task<MigrationId> CrashAsync(VmName vm, MigrationMode mode, string? copiedBefore, string lostAfter, CancellationToken cancellation)
    {
        if (copiedBefore is null)
            await cluster.Postgres.KeepCopyAsync();
        var crashed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        cluster.Steps.OnStep = async seen =>
        {
            if (seen.Step == new Step(Step.Control, Step.Before, copiedBefore ?? ""))
            {
                await cluster.Postgres.KeepCopyAsync();
            }
            else if (seen.Step == new Step(Step.Control, Step.After, lostAfter) && !crashed.Task.IsCompleted)
            {
                await cluster.Postgres.StopAsync(crash: true);
                crashed.SetResult();
            }
        };
        var posting = cluster.MigrateAsync(new MigrateRequest(vm, HostName.Parse(Step.Destination), new MigrationOptions(mode), Guid.NewGuid()), EndWithin, cancellation);
        if (copiedBefore is null)
            await posting; // said again after the loss it would be a new request
        await crashed.Task.WaitAsync(StepWithin, TimeProvider.System, cancellation);
        cluster.Steps.OnStep = static _ => Task.CompletedTask;
        await cluster.Postgres.PutCopyBackAsync();
        await cluster.Postgres.ResumeAsync();
        return await posting;
    }

    private async Task CheckAsync(Outside outside, RunWatch watch, VmName vm, Guid before, CancellationToken cancellation)
    {
        await Patience.UntilAsync("one machine, and both agents agree", EndWithin, () => SplitAsync(outside, vm, cancellation), cancellation);
        await GrowsAsync(outside, Step.Destination, cancellation);
        Assert.Null(await Outside.OracleAsync(outside.Machines().Single(), cancellation));
        Assert.Null(watch.Violation);
        Assert.NotEqual(before, await cluster.ClusterIdAsync(cancellation));
    }

    private Task CompletedAsync(MigrationId id, CancellationToken cancellation) => Patience.UntilAsync("the migration has completed", EndWithin, async () =>
    {
        var now = await cluster.AskAsync((client, late) => client.MigrationAsync(id.ToString(), late), cancellation);
        return now.State == "completed" ? null : $"It is '{now.State}': {now.Error}";
    }, cancellation);

    private static Task GrowsAsync(Outside outside, string host, CancellationToken cancellation) =>
        outside.GrowsAsync(host, $"the guest writes at {host}", StepWithin, cancellation);

    /// <summary>Null: the destination alone has a machine and is the owner in its ledger.</summary>
    private async Task<string?> SplitAsync(Outside outside, VmName vm, CancellationToken cancellation)
    {
        var machines = outside.Machines().Select(static m => m.Host).ToList();
        if (!machines.SequenceEqual([Step.Destination]))
            return $"QEMU at {string.Join(", ", machines)}.";
        using var agents = new HttpClient(new SocketsHttpHandler { UseProxy = false }) { DefaultRequestVersion = HttpVersion.Version20, DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };
        var owners = new List<string>();
        foreach (var host in await cluster.AskAsync(static (client, late) => client.HostsAsync(late), cancellation))
        {
            var facts = await agents.GetFromJsonAsync(new Uri(host.AgentUrl!, "/agent/v1/facts?after=-1&wait_ms=0"), AgentJson.Default.HostFacts, cancellation);
            if (facts!.Vms.Any(v => v.Name == vm && v.Owner))
                owners.Add(host.Name.Value);
        }

        return owners.SequenceEqual([Step.Destination]) ? null : $"Owner by the agents: {string.Join(", ", owners)}.";
    }
}
