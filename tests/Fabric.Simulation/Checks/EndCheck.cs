using System.Text.Json;
using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Simulation.Worlds;
using Fabric.Supervisor;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Api;

namespace Fabric.Simulation.Checks;

/// <summary>After the faults have stopped: I8, that everything ends and nothing is left over, and I11, that the API says what the journal says.</summary>
internal sealed class EndCheck(World world)
{
    /// <summary>The first thing that is not as it must be at last, or null.</summary>
    internal string? Unfinished()
    {
        var journal = world.Observer.Journal;
        if (journal.Migrations.FirstOrDefault(static m => m.Value is ActiveState) is { Value: ActiveState active })
            return $"migration {active.Plan.Id} of {active.Plan.Vm} is {active.Name}";
        if (journal.Vms.Values.FirstOrDefault(static vm => vm.Active is not null || vm.Status is VmStatus.Creating or VmStatus.Deleting) is { } vm)
            return $"the books of {vm.Name} say {(vm.Active is null ? vm.Status : "migrating")}";
        if (journal.Batches.Values.FirstOrDefault(static b => b.EndedAt is null) is { } batch)
            return $"the evacuation of {batch.Plan.Host} runs";
        if (world.Hosts.Find(static h => !h.Ready) is { } host)
            return $"{host.Name} does not answer";
        if (Unsettled() is { } unsettled)
            return unsettled;
        foreach (var life in world.Observer.Lives.Where(static l => l.GoneBy is null))
        {
            if (life.Running.Count != 1)
                return $"{life.Vm} runs at {life.Running.Count} places and nothing took it";
            var books = journal.Vms.GetValueOrDefault(life.Vm);
            if (books is not { Status: VmStatus.Present } || books.Owner != life.Running[0].Host.Name)
                return $"{life.Running[0]} runs; the books say {books?.Status} at {books?.Owner}";
        }

        if (world.Hosts.SelectMany(static h => h.Machines).FirstOrDefault(static m => m.CpuPercent != 100) is { } slow)
            return $"{slow} is held to {slow.CpuPercent} % of its speed by nobody";
        return world.Hosts.Select(LeftOver).FirstOrDefault(static left => left is not null);
    }

    /// <summary>Every node that is not lost is in the view, and nobody else; each shard has one holder, which is where the placement says and knows it.</summary>
    private string? Unsettled()
    {
        var view = world.Store.View;
        if (world.Nodes.Find(n => !n.Lost && (n.Member is not { } id || view.Find(id) is not { State: MemberState.Up })) is { } outside)
            return $"{outside.Name} is not in the cluster";
        if (view.Members.FirstOrDefault(m => !m.IsFinal && world.Node(m).Member != m.Node) is { } ghost)
            return $"{ghost.Name} ({ghost.Holder}) is {ghost.State} in the view and there is no such process";
        if (view.Suspicions.Length > 0)
            return $"{view.Find(view.Suspicions[0].By)?.Name} suspects {view.Find(view.Suspicions[0].Node)?.Name}";
        foreach (var shard in new ShardMap(world.Plan.Shards).All)
        {
            var placed = ShardPlacement.Of(view, shard)!;
            if (world.Store.HolderOf(shard) is var holder && holder != placed.Holder)
                return $"shard {shard.Value} is placed on {placed.Name} and held by {holder ?? "nobody"}";
            var holders = world.Nodes.Where(n => n.Member is not null && n.Holds(shard)).Select(static n => n.Name).ToList();
            if (holders.Count != 1 || holders[0] != placed.Name)
                return $"shard {shard.Value} is placed on {placed.Name}; {(holders.Count == 0 ? "nobody says" : string.Join(" and ", holders) + " say")} that it is theirs";
        }

        return null;
    }

    /// <summary>What is on a host that nobody needs.</summary>
    private string? LeftOver(SimHost host)
    {
        bool lost = world.Observer.Journal.Vms.Values.Any(static vm => vm.Status == VmStatus.Lost);
        foreach (var machine in host.Machines)
        {
            var ledger = host.Disk.Replay(machine.Spec.Name);
            if (ledger.Machine != machine.Id || !(ledger.Owner || lost))
                return $"{machine} is left over";
        }

        foreach (string name in host.Disk.Names)
        {
            var ledger = host.Disk.Replay(VmName.Parse(name));
            if (ledger is { Outgoing.Ended: false } or { Incoming.Ended: false } && !lost)
                return $"the ledger of {name} at {host.Name} says {(ledger.Outgoing is { Ended: false } o ? o.Phase : ledger.Incoming!.Step)}";
        }

        if (!lost && host.Plane is { } plane && (plane.Connections.Count > 0 || plane.OpenDoors > 0))
            return $"{host.Name} has {plane.Connections.Count} connections and {plane.OpenDoors} doors open";
        return null;
    }

    /// <summary>Asks the nodes for what is over and compares with a replay of the journal, byte for byte.</summary>
    internal void Compare()
    {
        foreach (var life in world.Observer.Lives)
        {
            foreach (var machine in life.Running)
            {
                machine.Advance();
                machine.CompareMemory("at the end");
            }
        }

        var answers = new Dictionary<MigrationId, List<byte[]>>();
        foreach (var node in world.Nodes.Where(static n => n.Member is not null))
        {
            node.Process!.Begin(async () =>
            {
                foreach (var report in await node.Everywhere.ListMigrationsAsync(CancellationToken.None))
                {
                    if (!answers.TryGetValue(report.Id, out var said))
                        answers[report.Id] = said = [];
                    said.Add(JsonSerializer.SerializeToUtf8Bytes(world.Plants.Reported(report), ApiJson.Default.MigrationReport));
                }
            });
        }

        world.Loop.RunFor(TimeSpan.FromMilliseconds(1));
        int answering = world.Nodes.Count(static n => n.Member is not null);
        var empty = new Board(world.Clock, TimeSpan.Zero);
        foreach (var (id, state) in world.Observer.Journal.Migrations)
        {
            byte[] replayed = JsonSerializer.SerializeToUtf8Bytes(Reports.Of((KnownState)state, empty, world.Clock.GetUtcNow()), ApiJson.Default.MigrationReport);
            if (!answers.TryGetValue(id, out var said))
                world.Observer.Violated("I11", $"no node knows migration {id}, which the journal has");
            else if (said.Count != answering)
                world.Observer.Violated("I11", $"{answering - said.Count} nodes do not know migration {id}, which the journal has");
            else if (said.Find(bytes => !bytes.AsSpan().SequenceEqual(replayed)) is { } other)
                world.Observer.Violated("I11", $"migration {id}: the API says {System.Text.Encoding.UTF8.GetString(other)}, a replay of the journal {System.Text.Encoding.UTF8.GetString(replayed)}");
        }
    }
}
