using Fabric.Core;
using Fabric.Machines;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Machines;

/// <summary>Makes machines for one life of a host's agent and finds those that an earlier life left.</summary>
internal sealed class MachineFactory(World world, SimHost host, SimProcess agent) : IMachineFactory
{
    public MachineKind Kind => MachineKind.Synthetic;

    /// <summary>The process appears while its agent lives; whether the agent lives to hear of it is another matter.</summary>
    public async ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation)
    {
        RequireAgent();
        var made = new TaskCompletionSource<IMachine>();
        world.After(world.Chance.Milliseconds(20, 400), () =>
        {
            if (agent.Dead || !host.Powered || host.RefusesMachines > world.Now)
            {
                made.TrySetException(new FabricException(ErrorCodes.MachineFailed, $"Host {host.Name} starts no machine now."));
                return;
            }

            var machine = host.Start(spec, birth);
            if (birth == MachineBirth.Boot)
                machine.Continue();
            world.After(world.Chance.Milliseconds(1, 20), () => made.TrySetResult(new MachineHandle(world, machine, agent)));
        });
        await using var registration = cancellation.Register(() => made.TrySetCanceled(cancellation));
        return await made.Task;
    }

    public async ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation)
    {
        RequireAgent();
        await world.DelayAsync(world.Chance.Milliseconds(1, 30));
        if (host.AdoptionFails > world.Now)
            throw new FabricException(ErrorCodes.MachineFailed, "The machine does not answer yet.");
        if (host.Machines.Find(m => m.Id == adoptionRecord) is not { } machine)
            return null;
        if (!world.Plants.On("adopt-slow"))
            machine.SetSpeed(100);
        return new MachineHandle(world, machine, agent);
    }

    public async ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation)
    {
        RequireAgent();
        await world.DelayAsync(world.Chance.Milliseconds(1, 30));
        RequireAgent();
        foreach (var machine in host.Machines.Where(m => !adoptionRecords.Contains(m.Id)).ToList())
            machine.End("no ledger names it", fault: true);
    }

    private void RequireAgent()
    {
        if (agent.Dead)
            throw new FabricException(ErrorCodes.Unreachable, "This agent's process is gone.");
    }
}
