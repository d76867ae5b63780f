using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Unit.Host;

/// <summary>The network between hosts, in memory: carries the order of the protocol and no pages. A host's death breaks its streams.</summary>
internal sealed class MemoryNetwork
{
    private readonly ConcurrentDictionary<(int Port, MigrationId Migration), Door> _doors = new();
    private int _ports = 1000;

    /// <summary>Called at named points of a stream, before the step: a test may kill a host there.</summary>
    internal Func<string, Task> Reached { get; set; } = static _ => Task.CompletedTask;

    /// <summary>How long a destination takes to close a stream.</summary>
    internal Func<Task> WhileClosing { get; set; } = static () => Task.CompletedTask;

    /// <summary>Whether a push needs to be told to stop by hand: rounds always leave this many pages dirty.</summary>
    internal long DirtyAfter { get; set; }

    /// <summary>What sources connected with, the first one first.</summary>
    internal ConcurrentQueue<OutgoingRoute> Routes { get; } = new();

    internal MemoryPlane NewPlane() => new(this, Interlocked.Increment(ref _ports));

    internal sealed class Door(MemoryNetwork network, MemoryPlane owner, IncomingRoute route) : IIncomingDoor
    {
        private Stream? _waiting;

        internal MemoryPlane Owner => owner;

        internal Ticket Ticket => route.Ticket;

        public IIncomingTransfer Next() => (_waiting = new Stream(network)).Incoming;

        /// <summary>The stream that waits for a source; once.</summary>
        internal Stream? Take(TransferTerms terms)
        {
            var taken = Interlocked.Exchange(ref _waiting, null);
            taken?.Agree(terms);
            return taken;
        }

        public void Dispose() => network._doors.TryRemove(new KeyValuePair<(int, MigrationId), Door>((owner.Endpoint.Port, route.Migration), this));
    }

    internal sealed class MemoryPlane(MemoryNetwork network, int port) : IDataPlane
    {
        private readonly ConcurrentDictionary<Stream, bool> _streams = new();
        private volatile bool _dead;

        public DataEndpoint Endpoint { get; } = new("memory", port);

        public Task<IOutgoingTransfer> ConnectAsync(OutgoingRoute route, IGuestMemory memory, bool looks, CancellationToken cancellation)
        {
            if (_dead || !network._doors.TryGetValue((route.Endpoint.Port, route.Terms.Migration), out var door) || door.Ticket != route.Ticket || door.Owner._dead || door.Take(route.Terms) is not { } stream)
                throw new FabricException(ErrorCodes.Unreachable, "Nobody lets this source in.");
            network.Routes.Enqueue(route);
            _streams[stream] = true;
            door.Owner._streams[stream] = true;
            return Task.FromResult<IOutgoingTransfer>(stream);
        }

        public IIncomingDoor Expect(IncomingRoute route, IGuestMemory memory)
        {
            var door = new Door(network, this, route);
            network._doors[(port, route.Migration)] = door;
            return door;
        }

        /// <summary>The host's process dies: its streams break for both ends.</summary>
        internal void Cut()
        {
            _dead = true;
            foreach (var stream in _streams.Keys)
                stream.Break();
        }

        /// <summary>The link blinks: streams break, the processes live.</summary>
        internal void Blink()
        {
            foreach (var stream in _streams.Keys)
                stream.Break();
        }

        public ValueTask DisposeAsync()
        {
            Cut();
            return ValueTask.CompletedTask;
        }
    }

    /// <summary>Both ends of one migration's connections.</summary>
    internal sealed class Stream(MemoryNetwork network) : IOutgoingTransfer
    {
        private static readonly FabricException Broken = new(ErrorCodes.Unreachable, "The link broke.");

        private readonly TaskCompletionSource<FabricError?> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _broken = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource<IIncomingHandler> _handler = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _received = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private HandOverKind _kind;
        private TransferTerms? _terms;

        internal MemoryNetwork Network => network;

        internal void Agree(TransferTerms terms) => _terms = terms;

        internal IIncomingTransfer Incoming => field ??= new Receiver(this);

        public Task<FabricError?> Over => _over.Task;

        public MigrationStats Snapshot() => _terms is { } terms ? new() { TotalBytes = terms.PageCount * terms.PageSize, WireBytes = 1 } : new();

        public async Task<RoundReport> PushRoundAsync(Func<PushLook, bool> goesOn, CancellationToken cancellation)
        {
            await Step("round", cancellation);
            return new RoundReport(1, 0, 0, 0, TimeSpan.FromMilliseconds(1), network.DirtyAfter);
        }

        public Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation) => Task.CompletedTask;

        public async Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation)
        {
            _kind = kind;
            byte[] state = await deviceState;
            await Step("load", cancellation);
            var handler = await _handler.Task.WaitAsync(cancellation);
            await handler.LoadDeviceStateAsync(state, kind, cancellation);
            await Step("ready", cancellation);
        }

        public async Task<long> PassTokenAsync(Epoch epoch, CancellationToken cancellation)
        {
            await Step("token", cancellation);
            var handler = await _handler.Task;
            // A token that is on its way arrives even if the source dies meanwhile.
            var running = await handler.AcceptTokenAsync(epoch, CancellationToken.None);
            await Step("running", cancellation);
            if (_kind == HandOverKind.Complete)
                _received.TrySetResult();
            return TimeProvider.System.GetTimestampBefore(running);
        }

        public async Task ServePullAsync(CancellationToken cancellation)
        {
            await Step("pull", cancellation);
            var handler = await _handler.Task.WaitAsync(cancellation);
            await handler.CompletePullAsync(null, cancellation);
            _received.TrySetResult();
        }

        public ValueTask DisposeAsync()
        {
            Break();
            return ValueTask.CompletedTask;
        }

        internal void Break()
        {
            _broken.TrySetException(Broken);
            _over.TrySetResult(Broken.Error);
        }

        private async Task Step(string point, CancellationToken cancellation)
        {
            await network.Reached(point);
            cancellation.ThrowIfCancellationRequested();
            if (_broken.Task.IsCompleted)
                throw Broken;
        }

        private sealed class Receiver(Stream stream) : IIncomingTransfer
        {
            public MigrationStats Snapshot() => stream.Snapshot();

            public async Task RunAsync(IIncomingHandler handler, CancellationToken cancellation)
            {
                stream._handler.TrySetResult(handler);
                var first = await Task.WhenAny(stream._received.Task, stream._broken.Task).WaitAsync(cancellation);
                if (!stream._received.Task.IsCompleted)
                    await first;
            }

            public async ValueTask DisposeAsync()
            {
                stream.Break();
                await stream.Network.WhileClosing();
            }
        }
    }
}
