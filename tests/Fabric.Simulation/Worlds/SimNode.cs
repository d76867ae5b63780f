using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Simulation.Network;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Stores;
using Fabric.Supervisor;
using Fabric.Wire.Agent;

namespace Fabric.Simulation.Worlds;

/// <summary>A control node: one process after the other with the real lives of a node in its cluster, over the one store. Its name is the same in every process.</summary>
internal sealed class SimNode(World world, string name)
{
    private readonly List<Action> _resets = [];
    private (int After, bool Dies, TimeSpan For)? _holdBack;
    private ControlNode? _control;
    private int _lives;

    internal string Name => name;

    internal Uri Url { get; } = new($"http://{name}:1/");

    internal SimProcess? Process { get; private set; }

    internal TimeSpan WallOffset { get; set; }

    internal bool Lives => Process is { Dead: false };

    /// <summary>Never started again.</summary>
    internal bool Lost { get; private set; }

    /// <summary>Began to leave and has not ended yet.</summary>
    internal bool Leaves { get; private set; }

    /// <summary>World time until which this node, its store or its network had trouble of any kind: nobody is to blame who holds it for dead.</summary>
    internal TimeSpan TroubledUntil { get; private set; }

    /// <summary>The member that it is now, or null.</summary>
    internal Guid? Member => Lives ? _control?.Node : null;

    /// <summary>What it answers operators; in its process.</summary>
    /// <exception cref="FabricException">unreachable: it is not in the cluster.</exception>
    internal IControlPlane Everywhere => Control.Everywhere;

    /// <summary>What it answers other nodes; in its process.</summary>
    /// <exception cref="FabricException">unreachable: it is not in the cluster.</exception>
    internal IControlPlane Here => Control.Here;

    private ControlNode Control => _control ?? throw new FabricException(ErrorCodes.Unreachable, $"{name} is starting.");

    /// <summary>Whether it says that it holds a shard.</summary>
    internal bool Holds(ShardId shard) => ((ControlPlane)Here).Holds(shard);

    internal void Start()
    {
        if (Lives || Lost)
            return;
        var process = Process = new SimProcess($"{name}#{++_lives}", world.Loop, world.Observer.Broke) { Clock = { WallOffset = WallOffset } };
        world.Trace($"node {process.Name} starts");
        Trouble(TimeSpan.Zero);
        (_control, Leaves) = (null, false);
        var parts = Parts(process);
        process.Begin(async () =>
        {
            var control = _control = new ControlNode(parts, Url, Url);
            try
            {
                await control.StartAsync(CancellationToken.None);
            }
            catch (FabricException refused)
            {
                // As the service does: it ends, and whoever watches it starts it again.
                world.Trace($"node {process.Name} ends: {refused.Message}");
                Kill();
                world.After(world.Chance.Milliseconds(500, 3000), Start);
            }
        });
    }

    private ControlParts Parts(SimProcess process)
    {
        var options = new SupervisorOptions
        {
            Shards = world.Plan.Shards,
            RestAfter = TimeSpan.FromSeconds(4), // entities come and go within each world
            Limits = world.Plants.On("no-limits") ? new BatchLimits(100, 100, 100) : world.Plan.Limits,
            NewTicket = () => new Ticket(Convert.ToHexStringLower(Bytes(world.Tickets))),
        };
        var way = new StoreWay(world, this, process);
        return new ControlParts(
            HostName.Parse(name), new SimJournal(world, world.Store, way, this, process), new SimMembership(world, world.Store, way), new SimGateway(world, this),
            new HostRegistry(process.Clock), peer => new SimPeer(world, this, world.Node(peer)), new SimProbe(world, this), options, MembershipOptions.Default,
            world.Chance.NewRandom(), process.Clock, world.Loggers(process.Name), process);
    }

    internal void Kill()
    {
        if (!Lives)
            return;
        world.Trace($"node {Process!.Name} is gone");
        Process.Kill();
        _control = null;
        Trouble(TimeSpan.Zero);
        foreach (var reset in _resets.ToList())
            reset();
        _resets.Clear();
    }

    /// <summary>In the middle of something; it comes back after a while.</summary>
    internal void DieNow()
    {
        Kill();
        world.After(world.Chance.Milliseconds(50, 15_000), Start);
    }

    /// <summary>Gives its shards back and leaves the cluster; then its process ends, and after a while another begins.</summary>
    internal void Leave(TimeSpan stayAway)
    {
        if (!Lives || Leaves)
            return;
        if (_control is not { Node: not null } control)
        {
            Kill();
            world.After(stayAway, Start);
            return;
        }

        world.Trace($"node {Process!.Name} leaves");
        Leaves = true;
        Process.Begin(async () =>
        {
            await control.DisposeAsync();
            Kill();
            world.After(stayAway, Start);
        });
    }

    /// <summary>For good. The last one is not lost.</summary>
    internal void Lose()
    {
        if (world.Nodes.TrueForAll(other => other == this || other.Lost))
            return;
        Kill();
        Lost = true;
    }

    internal void Freeze(TimeSpan forTime)
    {
        if (Process is not { Dead: false } process)
            return;
        Trouble(forTime);
        process.Freeze();
        world.After(forTime, process.Thaw);
    }

    /// <summary>The command that is so many commands away lies somewhere on its way for so long, and its sender dies over it or is frozen until it has arrived.</summary>
    internal void HoldBack(int after, bool dies, TimeSpan forTime) => _holdBack = (after, dies, forTime);

    internal void HoldNothing() => _holdBack = null;

    /// <summary>How long the command that is sent now is held back; null: it is not. In the node's process, which ends with this turn or stands after it.</summary>
    internal TimeSpan? HoldsBack()
    {
        if (_holdBack is not { } hold)
            return null;
        _holdBack = hold.After > 1 ? hold with { After = hold.After - 1 } : null;
        if (_holdBack is not null)
            return null;
        world.Trace($"the command is held back for {hold.For.TotalSeconds:0.000} s");
        if (hold.Dies)
            DieNow();
        else
            Freeze(hold.For);
        return hold.For;
    }

    internal void Trouble(TimeSpan forTime) => TroubledUntil = world.Now + forTime > TroubledUntil ? world.Now + forTime : TroubledUntil;

    /// <summary>Calls back when the process of now ends: its connections are reset.</summary>
    internal void OnReset(Action reset) => _resets.Add(reset);

    internal void NoReset(Action reset) => _resets.Remove(reset);

    internal void Register(HostRegistration registration)
    {
        if (Lives)
            Process!.Begin(() => Here.RegisterHostAsync(registration, CancellationToken.None));
    }

    private static byte[] Bytes(Random random)
    {
        byte[] bytes = new byte[Ticket.Bytes];
        random.NextBytes(bytes);
        return bytes;
    }
}
