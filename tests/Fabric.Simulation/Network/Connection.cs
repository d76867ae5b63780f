using Fabric.Core;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Network;

/// <summary>What source and destination say to each other: the frames of docs/PROTOCOL.md, section 3, as far as they decide anything.</summary>
internal abstract record Message
{
    internal sealed record Terms(bool Resume) : Message;

    internal sealed record TermsAccepted(IReadOnlyList<int> Lacks) : Message;

    internal sealed record Pages(IReadOnlyList<(int Page, long Version)> Data, bool Pull) : Message;

    internal sealed record Barrier(int Number) : Message;

    internal sealed record BarrierReached(int Number) : Message;

    /// <param name="Missing">Null when nothing is pulled.</param>
    /// <param name="State">The device state.</param>
    /// <param name="Digests">All versions, where all of memory is compared.</param>
    internal sealed record Finish(PageBitmap? Missing, byte[] State, long[]? Digests) : Message;

    internal sealed record Ready : Message;

    internal sealed record Token(Epoch Epoch) : Message;

    internal sealed record Running(TimeSpan For) : Message;

    internal sealed record Want(IReadOnlyList<int> Wanted) : Message;

    internal sealed record PullDone : Message;

    /// <summary>The peer gives up, or the kernel says that it is gone.</summary>
    internal sealed record Bye(FabricError Error) : Message;
}

/// <summary>One end: hears what comes, in order, in its own process.</summary>
internal interface IEnd
{
    void Hear(Message message);

    void Break(FabricError error);
}

/// <summary>
/// The connections of one migration as one pair of pipes, in order, each late in its own way. What is sent while a direction is cut waits; when the cut lasts,
/// each end finds out by itself that it hears nothing, at a time of its own.
/// </summary>
internal sealed class Connection
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(10);

    private readonly World _world;
    private readonly DataPlane _source;
    private readonly DataPlane _destination;

    internal Connection(World world, DataPlane source, DataPlane destination)
    {
        (_world, _source, _destination) = (world, source, destination);
        ToDestination = new Pipe(world, source, destination);
        ToSource = new Pipe(world, destination, source);
        source.Connections.Add(this);
        destination.Connections.Add(this);
        world.Links.Watching.Add(this);
    }

    internal Pipe ToDestination { get; }

    internal Pipe ToSource { get; }

    internal void Join(IEnd source, IEnd destination) => (ToSource.End, ToDestination.End) = (source, destination);

    /// <summary>This end closes it: the other hears so behind what was sent.</summary>
    internal void Close(IEnd by, FabricError why)
    {
        if (by == ToSource.End)
            EndDied(_source, silently: false, why);
        else
            EndDied(_destination, silently: false, why);
    }

    internal void EndDied(DataPlane plane, bool silently, FabricError? why = null)
    {
        plane.Connections.Remove(this);
        var (heard, told) = plane == _source ? (ToSource, ToDestination) : (ToDestination, ToSource);
        if (heard.Closed)
            return;
        heard.Closed = true;
        var error = why ?? new FabricError(ErrorCodes.Unreachable, $"'{plane.Host.Name}' closed the connection.");
        if (!silently)
            told.Send(new Message.Bye(error));
        else
            BreakLater(told);
        if (told.Closed)
            _world.Links.Watching.Remove(this);
    }

    internal void OnCut(string from, string to)
    {
        bool ours = (from == _source.Host.Name.Value && to == _destination.Host.Name.Value) || (to == _source.Host.Name.Value && from == _destination.Host.Name.Value);
        if (!ours)
            return;
        foreach (var pipe in new[] { ToSource, ToDestination })
        {
            _world.After(Silence + _world.Chance.Milliseconds(0, 2500), () =>
            {
                if (_world.Links.IsCut(from, to))
                    Break(pipe);
            });
        }
    }

    private void BreakLater(Pipe pipe) => _world.After(Silence + _world.Chance.Milliseconds(0, 2500), () => Break(pipe));

    private static void Break(Pipe pipe)
    {
        if (!pipe.Closed)
            pipe.Deliver(new Message.Bye(new FabricError(ErrorCodes.Unreachable, "The peer said nothing for 10 s.")));
    }

    /// <summary>One direction.</summary>
    internal sealed class Pipe(World world, DataPlane from, DataPlane to)
    {
        private readonly Queue<(TimeSpan At, Message Message)> _underWay = new();
        private readonly Queue<Message> _inbox = new();
        private TimeSpan _last;
        private bool _pumping;

        internal IEnd? End { get; set; }

        /// <summary>The receiving end hears no more.</summary>
        internal bool Closed { get; set; }

        internal void Send(Message message)
        {
            var at = world.Now + world.Links.Delay();
            _last = at > _last ? at : _last;
            _underWay.Enqueue((_last, message));
            Pump();
        }

        private void Pump()
        {
            if (_pumping || _underWay.Count == 0)
                return;
            _pumping = true;
            var wait = _underWay.Peek().At - world.Now;
            world.After(wait > TimeSpan.Zero ? wait : TimeSpan.Zero, Arrive);
        }

        private void Arrive()
        {
            _pumping = false;
            if (Closed)
            {
                _underWay.Clear();
                return;
            }

            if (world.Links.IsCut(from.Host.Name.Value, to.Host.Name.Value))
            {
                _pumping = true;
                world.After(TimeSpan.FromMilliseconds(200), Arrive);
                return;
            }

            Deliver(_underWay.Dequeue().Message);
            Pump();
        }

        /// <summary>In order: items of a process run in any order, so each takes the oldest message.</summary>
        internal void Deliver(Message message)
        {
            _inbox.Enqueue(message);
            to.Process.Post(() =>
            {
                if (_inbox.TryDequeue(out var next) && !Closed)
                    End!.Hear(next);
            });
        }
    }
}
