using System.Net;
using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;
using Fabric.Transfer.Incoming;
using Fabric.Transfer.Outgoing;

namespace Fabric.Daemon;

/// <summary>
/// The data plane over sockets. A door (one expected migration) always has one transfer behind it that the listener attaches connections to. When
/// that transfer breaks in the pull, a fresh one takes its place before the agent hears of the failure, so a source that reconnects at once is let in.
/// </summary>
internal sealed class SocketDataPlane(IPEndPoint listen, TimeProvider time, ILoggerFactory logs) : IDataPlane
{
    private readonly DataListener _listener = new(listen, TransferSettings.Default, time, logs.CreateLogger<DataListener>());

    public DataEndpoint Endpoint => new(_listener.Endpoint.Address.ToString(), _listener.Endpoint.Port);

    public async Task<IOutgoingTransfer> ConnectAsync(OutgoingRoute route, IGuestMemory memory, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(route);
        var channels = await OutgoingConnector.ConnectAsync(
            route.Endpoint, route.Terms.Migration, route.Ticket, route.Terms.BulkConnections, TransferSettings.Default, time, cancellation);
        var cap = route.BandwidthBytesPerSecond is { } limit ? new BandwidthCap(limit, time) : null;
        return new OutgoingTransfer(memory, route.Terms, channels, cap, TransferSettings.Default, time, logs.CreateLogger<OutgoingTransfer>(), route.Resume);
    }

    public IDisposable Expect(IncomingRoute route, IGuestMemory memory, Action<IIncomingTransfer> connected)
    {
        ArgumentNullException.ThrowIfNull(route);
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(connected);
        bool digests = route.Verify == VerifyLevel.Full;
        var state = File.Exists(route.PullMap)
            ? PullState.OpenFile(route.PullMap, route.Migration, route.PageCount)
            : PullState.CreateFile(route.PullMap, route.Migration, route.PageCount, digests);
        var door = new Door(this, route, memory, state, connected);
        try
        {
            door.Open();
            return door;
        }
        catch
        {
            door.Dispose();
            throw;
        }
    }

    public ValueTask DisposeAsync() => _listener.DisposeAsync();

    /// <summary>The state of the pull lives until the door and every transfer behind it are disposed: <c>_users</c> counts them, under the lock.</summary>
    private sealed class Door(SocketDataPlane plane, IncomingRoute route, IGuestMemory memory, PullState state, Action<IIncomingTransfer> connected) : IDisposable
    {
        private readonly Lock _gate = new();
        private IDisposable? _registration;
        private int _users = 1;
        private bool _closed;

        public void Open()
        {
            Behind transfer;
            lock (_gate)
            {
                if (_closed)
                    return;
                _registration?.Dispose();
                var inner = new IncomingTransfer(memory, route.Migration, state, TransferSettings.Default, plane.Time, plane.Logs.CreateLogger<IncomingTransfer>());
                _registration = plane._listener.Register(route.Migration, route.Ticket, inner);
                _users++;
                transfer = new Behind(this, inner);
            }

            connected(transfer);
        }

        public void Dispose()
        {
            lock (_gate)
            {
                if (_closed)
                    return;
                _closed = true;
                _registration?.Dispose();
            }

            Leave();
        }

        private void Leave()
        {
            lock (_gate)
            {
                if (--_users > 0)
                    return;
            }

            state.Dispose();
        }

        /// <summary>A transfer that, when a sealed pull breaks, opens the door for its successor.</summary>
        private sealed class Behind(Door door, IncomingTransfer inner) : IIncomingTransfer
        {
            private int _disposed;

            public MigrationStats Snapshot() => inner.Snapshot();

            public async Task RunAsync(IIncomingHandler handler, CancellationToken cancellation)
            {
                try
                {
                    await inner.RunAsync(handler, cancellation);
                }
                catch (FabricException) when (door.MayResume && !cancellation.IsCancellationRequested)
                {
                    door.Open();
                    throw;
                }
            }

            public async ValueTask DisposeAsync()
            {
                if (Interlocked.Exchange(ref _disposed, 1) != 0)
                    return;
                await inner.DisposeAsync();
                door.Leave();
            }
        }

        private bool MayResume => state is { IsSealed: true, IsComplete: false };
    }

    private TimeProvider Time => time;

    private ILoggerFactory Logs => logs;
}
