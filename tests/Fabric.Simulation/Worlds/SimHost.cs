using Fabric.Core;
using Fabric.Host;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Simulation.Checks;
using Fabric.Simulation.Machines;
using Fabric.Simulation.Network;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Stores;
using Fabric.Wire.Agent;

namespace Fabric.Simulation.Worlds;

/// <summary>A machine in the data centre: power, a disk with ledgers, hypervisors, and one life after the other of its agent, which is the real one.</summary>
internal sealed class SimHost
{
    private readonly World _world;
    private HostAgent? _agent;
    private int _lives;

    internal SimHost(World world, HostName name, int port, long memoryBytes)
    {
        (_world, Name, Port, MemoryBytes) = (world, name, port, memoryBytes);
        Disk = new LedgerDisk(this);
    }

    internal HostName Name { get; }

    internal int Port { get; }

    internal long MemoryBytes { get; }

    internal bool Powered { get; private set; } = true;

    internal LedgerDisk Disk { get; }

    /// <summary>A ledger failed in this life of the agent: by its own words an operator restarts it.</summary>
    internal bool LedgerFailed { get; set; }

    internal List<SimMachine> Machines { get; } = [];

    internal SimProcess? Process { get; private set; }

    internal DataPlane? Plane { get; private set; }

    /// <summary>World times until which hypervisors are slow, do not start, or do not answer a new agent.</summary>
    internal TimeSpan SlowUntil { get; set; }

    internal TimeSpan RefusesMachines { get; set; }

    internal TimeSpan AdoptionFails { get; set; }

    internal TimeSpan WallOffset { get; set; }

    internal bool AgentLives => Process is { Dead: false };

    /// <summary>The agent answers.</summary>
    internal bool Ready => AgentLives && _agent is not null;

    internal TimeSpan OrderTime() => SlowUntil > _world.Now ? _world.Chance.Milliseconds(50, 5000) : _world.Chance.Milliseconds(0.2, 3);

    internal SimMachine Start(VmSpec spec, MachineBirth birth)
    {
        var machine = new SimMachine(_world, this, spec, birth, $"{Name}-{_world.NextNumber()}");
        Machines.Add(machine);
        _world.Observer.MachineStarted(machine);
        return machine;
    }

    internal void StartAgent()
    {
        if (AgentLives || !Powered)
            return;
        var process = new SimProcess($"{Name}#{++_lives}", _world.Loop, _world.Observer.Broke) { Clock = { WallOffset = WallOffset } };
        (Process, Plane, _agent, LedgerFailed) = (process, new DataPlane(_world, this, process), null, false);
        _world.Trace($"agent {process.Name} starts");
        var random = _world.Chance.NewRandom();
        process.Begin(async () =>
        {
            var seams = new HostAgentSeams(
                new LedgerStore(_world, Disk, process), Plane, [new MachineFactory(_world, this, process)], process.Clock, () => new Random(random.Next()), process,
                _world.Loggers(process.Name));
            var options = new HostAgentOptions { Name = Name, MemoryDirectory = World.MemoryDirectory, MemoryBytes = MemoryBytes };
            _agent = await HostAgent.StartAsync(options, seams, CancellationToken.None);
            await AnnounceAsync(process, _agent);
        });
    }

    /// <summary>The agent's process is gone; its connections are reset, its machines run on.</summary>
    internal void KillAgent()
    {
        if (!AgentLives)
            return;
        _world.Trace($"agent {Process!.Name} is killed");
        Process.Kill();
        _agent = null;
        Plane!.Kill(silently: false);
    }

    /// <summary>The host loses power: agent, machines, and what was not synced.</summary>
    internal void LosePower()
    {
        if (!Powered)
            return;
        _world.Trace($"host {Name} loses power");
        Powered = false;
        Process?.Kill();
        _agent = null;
        Plane?.Kill(silently: true);
        foreach (var machine in Machines.ToList())
            machine.End("its host lost power", fault: true);
        Disk.LosePower();
    }

    internal void Boot()
    {
        Powered = true;
        StartAgent();
    }

    /// <summary>In the middle of an append: the rest of the turn goes nowhere. It comes back after a while.</summary>
    internal void DieNow(bool power)
    {
        if (power)
            LosePower();
        else
            KillAgent();
        _world.After(_world.Chance.Milliseconds(50, 12_000), () => { if (power) Boot(); else StartAgent(); });
    }

    /// <summary>False: nobody listens.</summary>
    /// <param name="sent">What the control node sent.</param>
    /// <param name="answered">Hears the answer, unless the agent dies before.</param>
    internal bool Execute(AgentCommand sent, Action<CommandResult> answered)
    {
        if (!Ready)
            return false;
        var (process, agent) = (Process!, _agent!);
        process.Begin(async () =>
        {
            bool stale = _world.Observer.IsStale(this, sent);
            var command = _world.Plants.Received(sent, Observer.ShardSeen(this, sent.Header.Vm));
            var result = await agent.ExecuteAsync(command, CancellationToken.None);
            _world.Observer.Executed(this, sent, result, stale);
            answered(result);
        });
        return true;
    }

    internal bool Facts(long after, TimeSpan wait, Action<HostFacts> answered)
    {
        if (!Ready)
            return false;
        var agent = _agent!;
        Process!.Begin(async () => answered(await agent.FactsAsync(after, wait, CancellationToken.None)));
        return true;
    }

    /// <summary>Every second or so the agent tells the control nodes that it is here.</summary>
    private async Task AnnounceAsync(SimProcess process, HostAgent agent)
    {
        var registration = new HostRegistration(
            Name, agent.Incarnation, new Uri("http://sim:1"), Plane!.Endpoint, MemoryBytes, 4, agent.MachineKinds, "simulated");
        while (true)
        {
            foreach (var node in _world.Nodes)
                _world.Links.Send(Name.Value, node.Name, () => node.Register(registration));
            await Task.Delay(_world.Chance.Milliseconds(750, 1250), process.Clock);
        }
    }
}
