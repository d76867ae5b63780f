using System.Collections.Concurrent;
using System.Globalization;
using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer;

namespace Fabric.Benchmarks.Scale;

/// <summary>
/// The network between the hosts, within the process: pages are copied from the source's memory into the destination's, in the order of PROTOCOL.md §2, without sockets and frames.
/// The first round of a push lasts as long as it is told to, since a small guest would be gone before the next begins; later rounds last at least <see cref="LeastRound"/>.
/// Pre-copy only. Thousands of real streams would need five threads each, which in life are spread over the hosts.
/// </summary>
internal sealed class InProcessLink(TimeProvider time)
{
    internal static readonly TimeSpan LeastRound = TimeSpan.FromMilliseconds(200);

    private readonly ConcurrentDictionary<(int Port, MigrationId Migration), Door> _doors = new();
    private int _ports;
    private int _open;
    private int _mostOpen;
    private long _pages;

    /// <summary>Set while nothing moves.</summary>
    internal TimeSpan FirstRound { get; set; } = LeastRound;

    /// <summary>Streams between two hosts, connected and not yet let go of, that there were at once.</summary>
    internal int MostOpen => Volatile.Read(ref _mostOpen);

    internal long Pages => Interlocked.Read(ref _pages);

    internal IDataPlane NewPlane() => new Plane(this, Interlocked.Increment(ref _ports));

    private void Opened()
    {
        int now = Interlocked.Increment(ref _open);
        int most = Volatile.Read(ref _mostOpen);
        while (now > most && Interlocked.CompareExchange(ref _mostOpen, now, most) is var was && was != most)
            most = was;
    }

    private sealed class Plane(InProcessLink link, int port) : IDataPlane
    {
        public DataEndpoint Endpoint { get; } = new("in-process", 1 + (port % 65535));

        public Task<IOutgoingTransfer> ConnectAsync(OutgoingRoute route, IGuestMemory memory, bool looks, CancellationToken cancellation)
        {
            if (!link._doors.TryGetValue((route.Endpoint.Port, route.Terms.Migration), out var door) || door.Route.Ticket != route.Ticket)
                throw new FabricException(ErrorCodes.Unreachable, $"Nobody lets migration {route.Terms.Migration} in at port {route.Endpoint.Port.ToString(CultureInfo.InvariantCulture)}.");
            link.Opened();
            return Task.FromResult<IOutgoingTransfer>(new Stream(link, door, memory));
        }

        public IIncomingDoor Expect(IncomingRoute route, IGuestMemory memory) => link._doors[(Endpoint.Port, route.Migration)] = new Door(link, Endpoint.Port, route, memory);

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }

    private sealed class Door(InProcessLink link, int port, IncomingRoute route, IGuestMemory memory) : IIncomingDoor, IIncomingTransfer
    {
        private readonly TaskCompletionSource<IIncomingHandler> _handler = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _received = new(TaskCreationOptions.RunContinuationsAsynchronously);

        internal IncomingRoute Route => route;

        internal IGuestMemory Memory => memory;

        internal Task<IIncomingHandler> Handler => _handler.Task;

        internal void Received() => _received.TrySetResult();

        internal void Broke() => _received.TrySetException(new FabricException(ErrorCodes.Unreachable, "The source let go of the stream."));

        public IIncomingTransfer Next() => this;

        public MigrationStats Snapshot() => new() { TotalBytes = memory.PageCount * memory.PageSize };

        public Task RunAsync(IIncomingHandler handler, CancellationToken cancellation)
        {
            _handler.TrySetResult(handler);
            return _received.Task.WaitAsync(cancellation);
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;

        public void Dispose() => link._doors.TryRemove(KeyValuePair.Create((port, route.Migration), this));
    }

    /// <summary>The source's end. Its numbers rise while the first round lasts, as those of a real one do.</summary>
    private sealed class Stream(InProcessLink link, Door door, IGuestMemory memory) : IOutgoingTransfer
    {
        private readonly TaskCompletionSource<FabricError?> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly PageBitmap _dirty = new(memory.PageCount);
        private readonly PageBitmap _present = new(memory.PageCount);
        private IDirtyTracking? _tracking;
        private long _begun;
        private long _sent;
        private int _rounds;
        private int _disposed;

        public Task<FabricError?> Over => _over.Task;

        public MigrationStats Snapshot()
        {
            long total = memory.PageCount * memory.PageSize;
            long begun = Interlocked.Read(ref _begun);
            double share = begun == 0 ? 0 : Volatile.Read(ref _rounds) > 0 ? 1 : Math.Min(1, link.Time.GetElapsedTime(begun) / link.FirstRound);
            long done = (long)(total * share);
            return new()
            {
                TotalBytes = total,
                WireBytes = done,
                RemainingBytes = total - done,
                PagesSent = Interlocked.Read(ref _sent),
                Rounds = Volatile.Read(ref _rounds),
            };
        }

        public async Task<RoundReport> PushRoundAsync(Func<PushLook, bool> goesOn, CancellationToken cancellation)
        {
            long begun = link.Time.GetTimestamp();
            long pages;
            if (_rounds == 0)
            {
                Interlocked.Exchange(ref _begun, begun);
                _tracking = memory.StartDirtyTracking();
                memory.ReadPresence(_present);
                pages = Copy(_present);
                await Task.Delay(link.FirstRound, link.Time, cancellation);
            }
            else
            {
                pages = CopyDirty();
                await Task.Delay(LeastRound, link.Time, cancellation);
            }

            _rounds++;
            return new RoundReport(_rounds, pages, 0, pages * memory.PageSize, link.Time.GetElapsedTime(begun), 0);
        }

        public Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation) => Task.CompletedTask;

        public async Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation)
        {
            if (kind != HandOverKind.Complete)
                throw new FabricException(ErrorCodes.Unsupported, "The link within the process moves by pre-copy only.");
            byte[] state = await deviceState;
            CopyDirty();
            var handler = await door.Handler.WaitAsync(cancellation);
            await handler.LoadDeviceStateAsync(state, kind, cancellation);
        }

        public async Task<long> PassTokenAsync(Epoch epoch, CancellationToken cancellation)
        {
            var handler = await door.Handler;
            var running = await handler.AcceptTokenAsync(epoch, CancellationToken.None);
            door.Received();
            return link.Time.GetTimestampBefore(running);
        }

        public Task ServePullAsync(CancellationToken cancellation) => Task.CompletedTask;

        public ValueTask DisposeAsync()
        {
            if (Interlocked.Exchange(ref _disposed, 1) != 0)
                return ValueTask.CompletedTask;
            Interlocked.Decrement(ref link._open);
            _tracking?.Dispose();
            door.Broke();
            _over.TrySetResult(null);
            return ValueTask.CompletedTask;
        }

        private long CopyDirty()
        {
            _dirty.Clear();
            _tracking?.Scan(_dirty);
            return Copy(_dirty);
        }

        private long Copy(PageBitmap pages)
        {
            using var source = memory.Pin();
            using var destination = door.Memory.Pin();
            long count = 0;
            for (long page = pages.NextSet(0); page >= 0; page = pages.NextSet(page + 1))
            {
                nint offset = (nint)(page * memory.PageSize);
                GuestBytes.Copy(memory.Address + offset, door.Memory.Address + offset, memory.PageSize);
                count++;
            }

            Interlocked.Add(ref _sent, count);
            Interlocked.Add(ref link._pages, count);
            return count;
        }
    }

    private TimeProvider Time => time;
}
