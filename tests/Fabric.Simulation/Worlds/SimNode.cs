using Fabric.Cluster;
using Fabric.Migration;
using Fabric.Simulation.Network;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Stores;
using Fabric.Supervisor;
using Fabric.Wire.Agent;

namespace Fabric.Simulation.Worlds;

/// <summary>A control node: one life after the other of the real control plane, over the one store. Its name is the same in every life.</summary>
internal sealed class SimNode(World world, string name)
{
    private int _lives;

    internal string Name => name;

    internal SimProcess? Process { get; private set; }

    internal ControlPlane? Plane { get; private set; }

    internal TimeSpan WallOffset { get; set; }

    internal bool Lives => Process is { Dead: false };

    /// <summary>Not started again: the world ends with one node.</summary>
    internal bool Retired { get; set; }

    internal void Start()
    {
        if (Lives || Retired)
            return;
        var process = Process = new SimProcess($"{name}#{++_lives}", world.Loop, world.Observer.Broke) { Clock = { WallOffset = WallOffset } };
        world.Trace($"node {process.Name} starts");
        var options = new SupervisorOptions
        {
            Shards = world.Plan.Shards,
            Limits = world.Plants.On("no-limits") ? new BatchLimits(100, 100, 100) : world.Plan.Limits,
            NewTicket = () => new Ticket(Convert.ToHexStringLower(Bytes(world.Tickets))),
        };
        var random = world.Chance.NewRandom();
        process.Begin(() =>
        {
            Plane = new ControlPlane(
                new SimJournal(world, world.Store, this, process), new SimGateway(world, this), new HostRegistry(process.Clock), name, process.Clock, random,
                world.Loggers(process.Name), options, process);
            return Plane.StartAsync(CancellationToken.None);
        });
    }

    internal void Kill()
    {
        if (!Lives)
            return;
        world.Trace($"node {Process!.Name} is killed");
        Process.Kill();
        Plane = null;
    }

    /// <summary>In the middle of an append; it comes back after a while.</summary>
    internal void DieNow()
    {
        Kill();
        world.After(world.Chance.Milliseconds(50, 15_000), Start);
    }

    internal void Register(HostRegistration registration)
    {
        if (Lives && Plane is { } plane)
            Process!.Begin(() => plane.RegisterHostAsync(registration, CancellationToken.None));
    }

    private static byte[] Bytes(Random random)
    {
        byte[] bytes = new byte[Ticket.Bytes];
        random.NextBytes(bytes);
        return bytes;
    }
}
