namespace Fabric.Simulation.Worlds;

/// <summary>Breaks things as a schedule says, and at the end makes all of them whole.</summary>
internal sealed class Breaker(World world)
{
    internal void Do(Entry entry)
    {
        if (entry.Deed < Deed.EndMachine)
            BreakProcess(entry);
        else if (entry.Deed is < Deed.CutOneWay or Deed.DiskFull or Deed.DiskError)
            BreakHost(entry);
        else
            BreakBetween(entry);
    }

    internal void Heal()
    {
        world.Links.Heal();
        (world.Troubles.DownUntil, world.Troubles.FlakyUntil) = (default, default);
        world.Troubles.CutUntil.Clear();
        world.Troubles.DieAt.Clear();
        foreach (var host in world.Hosts)
        {
            (host.SlowUntil, host.RefusesMachines, host.AdoptionFails) = (default, default, default);
            (host.Disk.FullUntil, host.Disk.FailAfter, host.Disk.DieAt) = (default, 0, null);
            if (host.LedgerFailed)
                host.KillAgent(); // as the agent's own words ask for
            host.Process?.Thaw();
            host.Boot();
        }

        foreach (var node in world.Nodes)
        {
            node.Trouble(TimeSpan.Zero);
            node.HoldNothing();
            node.Process?.Thaw();
            node.Start();
        }
    }

    private SimHost HostOf(int number) => world.Hosts[number % world.Hosts.Count];

    private void BreakProcess(Entry entry)
    {
        var host = HostOf(entry.A);
        var node = world.NodeAt(entry.A);
        switch (entry.Deed)
        {
            case Deed.KillAgent:
                host.KillAgent();
                world.After(entry.For, host.StartAgent);
                break;
            case Deed.KillAgentAtAppend:
                host.Disk.DieAt = (entry.N, entry.B % 2 == 0, false);
                break;
            case Deed.LosePower:
                host.LosePower();
                world.After(entry.For, host.Boot);
                break;
            case Deed.LosePowerAtAppend:
                host.Disk.DieAt = (entry.N, entry.B % 2 == 0, true);
                break;
            case Deed.FreezeAgent when host.Process is { Dead: false } agent:
                agent.Freeze();
                world.After(entry.For, agent.Thaw);
                break;
            case Deed.KillNode:
                node.Kill();
                world.After(entry.For, node.Start);
                break;
            case Deed.KillNodeAtAppend:
                world.Troubles.DieAt[node.Name] = (entry.N, entry.B % 2 == 0);
                break;
            case Deed.FreezeNode: node.Freeze(entry.For); break;
            case Deed.LeaveNode: node.Leave(entry.For); break;
            case Deed.LoseNode: node.Lose(); break;
            case Deed.HoldCommand: node.HoldBack(entry.N % 6 + 1, entry.B % 2 == 0, entry.For + TimeSpan.FromSeconds(3)); break;
        }
    }

    private void BreakHost(Entry entry)
    {
        var host = HostOf(entry.A);
        var until = world.Now + entry.For;
        switch (entry.Deed)
        {
            case Deed.EndMachine when host.Machines.Count > 0:
                host.Machines[entry.B % host.Machines.Count].End("its hypervisor crashed", fault: true);
                break;
            case Deed.SlowMachines: host.SlowUntil = until; break;
            case Deed.RefuseMachines: host.RefusesMachines = until; break;
            case Deed.FailAdoption:
                host.AdoptionFails = until;
                host.KillAgent();
                world.After(TimeSpan.FromMilliseconds(300), host.StartAgent);
                break;
            case Deed.DiskFull:
                host.Disk.FullUntil = until;
                RestartLater(host, entry.For);
                break;
            case Deed.DiskError:
                host.Disk.FailAfter = entry.N;
                host.Disk.FailedLineStays = entry.B % 2 == 0;
                RestartLater(host, entry.For + TimeSpan.FromSeconds(10));
                break;
        }
    }

    /// <summary>An operator repairs the disk and restarts the agent, as its error asks for.</summary>
    private void RestartLater(SimHost host, TimeSpan after) => world.After(after, () =>
    {
        host.Disk.FailAfter = 0;
        if (!host.LedgerFailed)
            return;
        host.KillAgent();
        world.After(TimeSpan.FromMilliseconds(200), host.StartAgent);
    });

    private void BreakBetween(Entry entry)
    {
        var (a, b) = (HostOf(entry.A), HostOf(entry.B));
        var node = world.NodeAt(entry.B);
        switch (entry.Deed)
        {
            case Deed.CutOneWay:
                world.Links.Cut(a.Name.Value, b.Name.Value, entry.For);
                break;
            case Deed.CutBothWays:
                world.Links.Cut(a.Name.Value, b.Name.Value, entry.For);
                world.Links.Cut(b.Name.Value, a.Name.Value, entry.For);
                break;
            case Deed.CutControlOneWay:
                world.Links.Cut(entry.N % 2 == 0 ? a.Name.Value : node.Name, entry.N % 2 == 0 ? node.Name : a.Name.Value, entry.For);
                break;
            case Deed.CutControl:
                world.Links.Cut(a.Name.Value, node.Name, entry.For);
                world.Links.Cut(node.Name, a.Name.Value, entry.For);
                break;
            case Deed.CutNodesOneWay or Deed.CutNodes:
                CutNodes(world.NodeAt(entry.A), node, entry.For, bothWays: entry.Deed == Deed.CutNodes);
                break;
            case Deed.IsolateNode: Isolate(entry); break;
            case Deed.DisturbNetwork:
                (world.Links.Loss, world.Links.Doubling, world.Links.Lateness) = (0.004 * entry.N, 0.02 * entry.A, 0.006 * entry.B);
                break;
            case Deed.StoreDown:
                world.Troubles.DownUntil = world.Now + entry.For;
                TroubleAll(entry.For);
                break;
            case Deed.StoreFlaky:
                world.Troubles.FlakyUntil = world.Now + entry.For;
                TroubleAll(entry.For);
                break;
            case Deed.StoreCutOff: CutStore(node, entry.For); break;
            case Deed.StoreClockJumps: world.StoreClock.Offset += Jump(entry); break;
            case Deed.HostClockJumps:
                a.WallOffset += Jump(entry);
                a.Process?.Clock.WallOffset = a.WallOffset;
                break;
            case Deed.NodeClockJumps:
                node.WallOffset += Jump(entry);
                node.Process?.Clock.WallOffset = node.WallOffset;
                break;
        }
    }

    private void TroubleAll(TimeSpan forTime)
    {
        TroubleStore(forTime);
        foreach (var node in world.Nodes)
            node.Trouble(forTime);
    }

    private void TroubleStore(TimeSpan forTime)
    {
        if (world.Now + forTime > world.StoreTroubledUntil)
            world.StoreTroubledUntil = world.Now + forTime;
    }

    private void CutStore(SimNode node, TimeSpan forTime)
    {
        TroubleStore(forTime);
        world.Troubles.CutUntil[node.Name] = world.Now + forTime;
        node.Trouble(forTime);
    }

    private void CutNodes(SimNode a, SimNode b, TimeSpan forTime, bool bothWays)
    {
        if (a == b)
            return;
        a.Trouble(forTime);
        b.Trouble(forTime);
        world.Links.Cut(a.Name, b.Name, forTime);
        if (bothWays)
            world.Links.Cut(b.Name, a.Name, forTime);
    }

    /// <summary>From the other nodes; by N also from the store, and from the hosts.</summary>
    private void Isolate(Entry entry)
    {
        var node = world.NodeAt(entry.A);
        foreach (var other in world.Nodes)
            CutNodes(node, other, entry.For, bothWays: true);
        if (entry.N % 3 != 0)
            CutStore(node, entry.For);
        foreach (var host in world.Hosts.Where(_ => entry.N % 3 == 2))
        {
            world.Links.Cut(node.Name, host.Name.Value, entry.For);
            world.Links.Cut(host.Name.Value, node.Name, entry.For);
        }
    }

    private static TimeSpan Jump(Entry entry) => (entry.N % 4) switch
    {
        0 => TimeSpan.FromHours(1),
        1 => TimeSpan.FromHours(-1),
        2 => TimeSpan.FromSeconds(entry.A),
        _ => TimeSpan.FromSeconds(-entry.A),
    };
}
