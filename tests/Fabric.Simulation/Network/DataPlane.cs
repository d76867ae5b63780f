using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Simulation.Machines;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;
using Fabric.Transfer;

namespace Fabric.Simulation.Network;

/// <summary>One agent life's end of the page network: its doors and its connections. Moves versions of pages in the order of docs/PROTOCOL.md.</summary>
internal sealed class DataPlane(World world, SimHost host, SimProcess process) : IDataPlane
{
    private static readonly TimeSpan ConnectPatience = TimeSpan.FromSeconds(5);

    private readonly Dictionary<MigrationId, Door> _doors = [];

    internal SimHost Host => host;

    internal SimProcess Process => process;

    internal World World => world;

    internal List<Connection> Connections { get; } = [];

    internal int OpenDoors => _doors.Count;

    public DataEndpoint Endpoint { get; } = new("sim", host.Port);

    public void Beside(Func<Task> work) => process.Begin(work);

    public async Task<IOutgoingTransfer> ConnectAsync(OutgoingRoute route, IGuestMemory memory, bool looks, CancellationToken cancellation)
    {
        var target = world.HostAt(route.Endpoint.Port);
        await Task.Delay(world.Links.Delay(), process.Clock, cancellation);
        if (world.Links.IsCut(host.Name.Value, target.Name.Value) || world.Links.IsCut(target.Name.Value, host.Name.Value) || !target.Powered || target.Process is { Frozen: true })
        {
            await Task.Delay(ConnectPatience, process.Clock, cancellation);
            throw new FabricException(ErrorCodes.Unreachable, $"'{target.Name}' takes no connection within {ConnectPatience.TotalSeconds} s.");
        }

        if (!target.AgentLives || target.Plane is not { } plane)
            throw new FabricException(ErrorCodes.Unreachable, $"'{target.Name}' refuses the connection.");
        if (!plane._doors.TryGetValue(route.Terms.Migration, out var door) || door.Route.Ticket != route.Ticket || door.Waiting is not { } incoming)
            throw new FabricException(ErrorCodes.Unreachable, $"Nobody lets this source in at '{target.Name}'.");
        door.Waiting = null;
        var connection = new Connection(world, this, plane);
        var outgoing = new Outgoing(world, connection, route, ((SimMemory)memory).Machine);
        connection.Join(outgoing, incoming);
        incoming.Attach(connection);
        connection.ToDestination.Send(new Message.Terms(route.Resume));
        return outgoing;
    }

    public IIncomingDoor Expect(IncomingRoute route, IGuestMemory memory)
    {
        var door = new Door(this, route, ((SimMemory)memory).Machine);
        _doors[route.Migration] = door;
        return door;
    }

    /// <summary>The process is gone. Its kernel resets the connections, unless it is gone too.</summary>
    internal void Kill(bool silently)
    {
        _doors.Clear();
        foreach (var connection in Connections.ToList())
            connection.EndDied(this, silently);
        Connections.Clear();
    }

    public ValueTask DisposeAsync()
    {
        Kill(silently: false);
        return ValueTask.CompletedTask;
    }

    internal sealed class Door(DataPlane plane, IncomingRoute route, SimMachine machine) : IIncomingDoor
    {
        internal IncomingRoute Route => route;

        internal Incoming? Waiting { get; set; }

        public IIncomingTransfer Next() => Waiting = new Incoming(plane, route, machine);

        public void Dispose()
        {
            if (plane._doors.GetValueOrDefault(route.Migration) == this)
                plane._doors.Remove(route.Migration);
        }
    }
}
