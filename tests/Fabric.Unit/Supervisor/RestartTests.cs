// The control node dies between an append and what follows it, at every kind of event there is. The journal's hook kills it in the moment the first event of that kind is durable:
// the append is never answered, and from then on nothing of that life reaches an agent or the journal. Another life must bring everything to an end, and
// the model says that the VM runs in one place.
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Hosts;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Api;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

public sealed class RestartTests
{
    private static readonly VmName Web = VmName.Parse("web");

    /// <summary>Event kind → the scenario that writes it. Kinds of phases that nothing reaches yet are listed as such.</summary>
    private static readonly Dictionary<string, string> Table = new()
    {
        ["migration-planned"] = "move",
        ["destination-prepared"] = "move",
        ["push-started"] = "move",
        ["hand-over-intended"] = "move",
        ["handed-over"] = "move",
        ["pull-completed"] = "move",
        ["source-released"] = "move",
        ["abort-requested"] = "abort",
        ["undo-done"] = "abort",
        ["migration-undone"] = "abort",
        ["step-failed"] = "cut in the push",
        ["hand-over-withdrawn"] = "cut in the stop",
        ["token-outcome-unknown"] = "destination dies before it accepts",
        ["take-back-intended"] = "destination dies before it accepts",
        ["fencing-needed"] = "destination falls silent",
        ["destination-returned"] = "destination falls silent",
        ["vm-lost"] = "destination loses it",
        ["destination-fenced"] = Later,
        ["recovery-completed"] = Later,
        ["hand-over-found"] = Forgotten,
        ["vm-create-intended"] = "move",
        ["vm-created"] = "move",
        ["vm-create-failed"] = "create twice",
        ["migration-claimed"] = "move",
        ["migration-settled"] = "move",
        ["vm-delete-intended"] = "delete",
        ["vm-deleted"] = "delete",
        ["vm-repaired"] = "repair",
        ["batch-planned"] = "evacuate",
        ["batch-item-started"] = "evacuate",
        ["batch-item-moved"] = "evacuate",
        ["batch-ended"] = "evacuate",
        ["batch-item-placed-anew"] = "evacuate badly",
        ["batch-item-failed"] = "evacuate badly",
        ["host-cordoned"] = "evacuate",
        ["host-uncordoned"] = "uncordon",
    };

    /// <summary>Written only where the store was put back to an older copy: Fabric.Chaos has a real one.</summary>
    private const string Forgotten = "the journal forgets";
    private const string Later = "not reached in this version";

    public static TheoryData<string, string> Rows
    {
        get
        {
            var rows = new TheoryData<string, string>();
            foreach (var (kind, scenario) in Table.Where(static row => row.Value is not (Later or Forgotten)))
                rows.Add(kind, scenario);
            return rows;
        }
    }

    [Fact]
    public void Every_kind_of_event_has_a_row() => Assert.Equal(
        EventCodec.Catalog.Kinds.Concat(VmEvents.Catalog.Kinds).Concat(BatchEvents.Catalog.Kinds).Concat(HostEvents.Catalog.Kinds).Order(), Table.Keys.Order());

    [Theory]
    [MemberData(nameof(Rows))]
    public async Task The_next_life_brings_it_to_an_end(string kind, string scenario)
    {
        await using var bench = await ControlBench.StartAsync();
        var died = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        string? dead = null;
        bench.Memory.Appended = record =>
        {
            if (record.Kind == kind && Interlocked.CompareExchange(ref dead, record.Holder, null) is null)
            {
                bench.Gateway.Kill();
                died.SetResult();
            }

            if (record.Holder == dead)
                throw new FabricException(ErrorCodes.StoreFailed, "the node is dead");
        };
        bench.Memory.Refuse = holder => holder == dead;
        var playing = PlayAsync(bench, scenario);
        await died.Task.WaitAsync(TimeSpan.FromSeconds(20));
        await bench.RestartControlAsync();
        await Ignore(playing);
        await EndAsync(bench, scenario);
    }

    private static async Task PlayAsync(ControlBench bench, string scenario)
    {
        var control = bench.Control;
        switch (scenario)
        {
            case "abort" or "cut in the push":
                bench.Gateway.Allow = static step => step != "converge";
                break;
            case "cut in the stop":
                bench.Gateway.Allow = static step => step is not "c2 token-sent";
                break;
            case "destination dies before it accepts":
                bench.Gateway.Allow = static step => step is not "c4 accepted";
                break;
            case "destination falls silent" or "destination loses it":
                bench.Gateway.Allow = static step => step != "pulled";
                break;
            default:
                break;
        }

        await bench.CreateAsync("web", Alpha);
        switch (scenario)
        {
            case "create twice":
                bench.Cluster.Agents[Alpha].Vms[VmName.Parse("other")] = new ModelVm(Spec("other"));
                await bench.CreateAsync("other", Alpha);
                return;
            case "delete":
                await control.DeleteVmAsync(Web, false, default);
                return;
            case "uncordon":
                await control.SetCordonedAsync(Beta, true, null, default);
                await control.SetCordonedAsync(Beta, false, null, default);
                return;
            case "repair":
                Locked(bench, () =>
                {
                    bench.Cluster.Agents[Alpha].Vms.Remove(Web);
                    bench.Cluster.Agents[Gamma].Vms[Web] = new ModelVm(Spec("web")) { RunEpoch = new Epoch(5), Owner = true, Running = true };
                    bench.Cluster.Agents[Gamma].Touch();
                });
                await control.RepairAsync(Web, null, default);
                return;
            case "evacuate badly":
                bench.Gateway.Allow = static step => step != "converge";
                goto case "evacuate";
            case "evacuate":
                await control.EvacuateAsync(new EvacuateRequest(Alpha, null, false, MigrationOptions.Default, null), default);
                if (scenario == "evacuate badly")
                    await CutEachPushAsync(bench);
                return;
            default:
                break;
        }

        var begun = await bench.MigrateAsync("web", Beta, scenario.StartsWith("destination", StringComparison.Ordinal) ? MigrationMode.PostCopy : MigrationMode.PreCopy);
        await DisturbAsync(bench, scenario, begun.Id);
    }

    private static async Task DisturbAsync(ControlBench bench, string scenario, MigrationId id)
    {
        switch (scenario)
        {
            case "abort":
                await StateAsync(bench, id, "pushing");
                await bench.Control.AbortMigrationAsync(id.ToString(), "enough", default);
                break;
            case "cut in the push":
                await StateAsync(bench, id, "pushing");
                Locked(bench, () => bench.Cluster.CutLink(id));
                break;
            case "cut in the stop":
                await StateAsync(bench, id, "stopping");
                await bench.UntilAsync(() => Task.FromResult(Locked(bench, () => bench.Cluster.Agents[Alpha].Vms[Web].Stopped)), "the VM stands");
                Locked(bench, () => bench.Cluster.CutLink(id));
                break;
            case "destination dies before it accepts":
                await bench.UntilAsync(() => Task.FromResult(Locked(bench, () => bench.Cluster.Agents[Alpha].Vms[Web] is { Source: SourcePhase.TokenSent, TokenHeldBack: false })), "the token left");
                await StateAsync(bench, id, "token-sent");
                Locked(bench, () => bench.Cluster.Restart(Beta));
                break;
            case "destination falls silent":
                await StateAsync(bench, id, "pulling");
                bench.Gateway.Silence(Beta, true);
                await StateAsync(bench, id, "needs-fencing");
                bench.Gateway.Silence(Beta, false);
                break;
            case "destination loses it":
                await StateAsync(bench, id, "pulling");
                Locked(bench, () =>
                {
                    var vm = bench.Cluster.Agents[Beta].Vms[Web];
                    (vm.Destination, vm.Running, vm.Machine) = (DestinationPhase.Lost, false, false);
                    bench.Cluster.Agents[Beta].Touch();
                });
                break;
            default:
                break;
        }
    }

    /// <summary>What must be true in the end, whoever died when.</summary>
    private static async Task EndAsync(ControlBench bench, string scenario)
    {
        if (scenario == "evacuate badly")
            await CutEachPushAsync(bench);
        bench.Gateway.Allow = static _ => true;
        var control = bench.Control;
        await bench.UntilAsync(
            async () => (await control.ListMigrationsAsync(default)).All(static m => Over(m.State))
                && (await control.ListEvacuationsAsync(default)).All(static e => e.State != "running")
                && (await control.ListVmsAsync(default)).All(static vm => vm.State is "running" or "lost"),
            $"everything ends: {string.Join(", ", (await control.ListMigrationsAsync(default)).Select(static m => m.State))}");
        int expected = scenario is "delete" or "destination loses it" ? 0 : 1;
        Assert.Equal(expected, bench.Cluster.RunningAt(Web).Count);
        Assert.True(bench.Cluster.Agents.Values.Count(static a => a.Vms.Values.Any(static vm => vm.Owner)) <= 1);
        if (scenario is "abort" or "cut in the push" or "cut in the stop" or "destination dies before it accepts")
            Assert.Equal(Alpha, bench.Cluster.RunningAt(Web)[0].Name);
        if (scenario == "repair")
            Assert.Equal(Gamma, (await control.ListVmsAsync(default)).Single().Host);
        AssertJournal(bench);
    }

    /// <summary>I5: per stream no gap, no repetition, epochs that only grow; I6: a migration's stream replays and nothing follows its end.</summary>
    private static void AssertJournal(ControlBench bench)
    {
        foreach (var stream in bench.Memory.All.GroupBy(static r => r.Stream))
        {
            var records = stream.ToList();
            Assert.Equal(Enumerable.Range(1, records.Count).Select(static i => (long)i), records.Select(static r => r.Sequence));
            Assert.Equal(records.Select(static r => r.Epoch.Value).Order(), records.Select(static r => r.Epoch.Value));
            if (!stream.Key.Value.StartsWith("migration/", StringComparison.Ordinal))
                continue;
            var replay = Transitions.Replay(Unborn.Instance, records.Select(static r => EventCodec.Catalog.Decode(r.Kind, r.Version, r.Payload).Event!));
            Assert.Null(replay.Error);
            Assert.IsAssignableFrom<TerminalState>(replay.State);
        }
    }

    /// <summary>Cuts every push until the evacuation has given up, so that it tries elsewhere and then says so.</summary>
    private static Task CutEachPushAsync(ControlBench bench) => bench.UntilAsync(
        async () =>
        {
            foreach (var migration in await bench.Control.ListMigrationsAsync(default))
            {
                if (migration.State == "pushing")
                    Locked(bench, () => bench.Cluster.CutLink(migration.Id));
            }

            var evacuations = await bench.Control.ListEvacuationsAsync(default);
            return evacuations.Count > 0 && evacuations.All(static e => e.State != "running");
        },
        "the evacuation gives up");

    /// <summary>Until the migration is in that state, or the node has died: the next life does not stop there for us to see.</summary>
    private static Task StateAsync(ControlBench bench, MigrationId id, string state) => bench.UntilAsync(
        async () => bench.Lives > 1 || (await bench.Control.GetMigrationAsync(id.ToString(), default)).State == state, $"{id} is {state}");

    private static void Locked(ControlBench bench, Action action)
    {
        lock (bench.Cluster.Gate)
            action();
    }

    private static T Locked<T>(ControlBench bench, Func<T> read)
    {
        lock (bench.Cluster.Gate)
            return read();
    }

    /// <summary>The player asked a node that died: how its request ended means nothing.</summary>
    private static async Task Ignore(Task playing)
    {
        try
        {
            await playing;
        }
        catch (Exception ended) when (ended is FabricException or OperationCanceledException)
        {
            // As expected.
        }
    }
}
