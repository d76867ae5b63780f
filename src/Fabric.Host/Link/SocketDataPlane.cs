using System.Net;
using Fabric.Actors;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;
using Fabric.Transfer.Incoming;
using Fabric.Transfer.Outgoing;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Link;

/// <summary>The data plane over TCP: one listener for all that comes, the link actor's budgets for all that leaves.</summary>
public sealed class SocketDataPlane : IDataPlane
{
    private static readonly TimeSpan BudgetDeadline = TimeSpan.FromSeconds(5);

    private readonly DataListener _listener;
    private readonly TransferSettings _settings;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly IActorRef<LinkMessage> _links;

    /// <param name="address">The address that peers reach this host under; also the one that is listened on. Port 0 chooses a free one.</param>
    /// <param name="links">The host's link actor.</param>
    /// <exception cref="FabricException">exhausted: the port is taken.</exception>
    public SocketDataPlane(IPEndPoint address, IActorRef<LinkMessage> links, TransferSettings settings, TimeProvider time, ILoggerFactory loggers)
    {
        ArgumentNullException.ThrowIfNull(address);
        ArgumentNullException.ThrowIfNull(loggers);
        (_settings, _time, _loggers, _links) = (settings, time, loggers, links);
        _listener = new DataListener(address, settings, time, loggers.CreateLogger<DataListener>());
        Endpoint = new DataEndpoint(address.Address.ToString(), _listener.Endpoint.Port);
    }

    public DataEndpoint Endpoint { get; }

    public async Task<IOutgoingTransfer> ConnectAsync(OutgoingRoute route, IGuestMemory memory, bool looks, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(route);
        var budget = await _links.AskAsync<LinkMessage, BandwidthCap>(reply => new OpenStream(route.Peer, reply), BudgetDeadline, _time, cancellation);
        var log = _loggers.CreateLogger<OutgoingTransfer>();
        var look = looks ? GuestLook.Begin(memory, _settings.ReadsAhead(route.Plan.Order), log) : null;
        try
        {
            var channels = await OutgoingConnector.ConnectAsync(
                route.Endpoint, route.Terms.Migration, route.Ticket, route.Terms.BulkConnections, _settings, _time, cancellation);
            // A migration's own limit is a budget of its own; without one it shares the link's.
            var cap = route.BandwidthBytesPerSecond is { } own ? new BandwidthCap(own, _time) : budget;
            try
            {
                var transfer = new OutgoingTransfer(memory, route.Terms, channels, cap, _settings, _time, log, route.Resume, route.Plan, look);
                return new Counted(transfer, () => _links.TryTell(new CloseStream(route.Peer)));
            }
            catch
            {
                channels.Dispose(); // the machine ended while the connections were made
                throw;
            }
        }
        catch
        {
            if (look is not null)
                await look.DisposeAsync();
            _links.TryTell(new CloseStream(route.Peer));
            throw;
        }
    }

    public IIncomingDoor Expect(IncomingRoute route, IGuestMemory memory)
    {
        ArgumentNullException.ThrowIfNull(route);
        ArgumentNullException.ThrowIfNull(memory);
        return new Door(this, route, memory, PullStateOf(route));
    }

    public ValueTask DisposeAsync() => _listener.DisposeAsync();

    /// <summary>A sealed map on disk is a pull that an earlier process of this agent began.</summary>
    private static PullState PullStateOf(IncomingRoute route)
    {
        if (File.Exists(route.PullMap))
        {
            var earlier = PullState.OpenFile(route.PullMap, route.Migration, route.PageCount);
            if (earlier.IsSealed)
                return earlier;
            earlier.Dispose();
        }

        return PullState.CreateFile(route.PullMap, route.Migration, route.PageCount, digests: route.Verify == VerifyLevel.Full);
    }

    private sealed class Door(SocketDataPlane plane, IncomingRoute route, IGuestMemory memory, PullState state) : IIncomingDoor
    {
        private IDisposable? _registration;

        public IIncomingTransfer Next()
        {
            _registration?.Dispose();
            var transfer = new IncomingTransfer(memory, route.Migration, state, plane._settings, plane._time, plane._loggers.CreateLogger<IncomingTransfer>());
            _registration = plane._listener.Register(route.Migration, route.Ticket, transfer);
            return transfer;
        }

        public void Dispose()
        {
            _registration?.Dispose();
            state.Dispose();
        }
    }

    /// <summary>Gives the stream's share of the link back when it is disposed.</summary>
    private sealed class Counted(OutgoingTransfer inner, Action closed) : IOutgoingTransfer
    {
        private int _closed;

        public MigrationStats Snapshot() => inner.Snapshot();

        public Task<FabricError?> Over => inner.Over;

        public Task<RoundReport> PushRoundAsync(Func<PushLook, bool> goesOn, CancellationToken cancellation) => inner.PushRoundAsync(goesOn, cancellation);

        public Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation) => inner.PrepareFinishAsync(kind, cancellation);

        public Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation) => inner.FinishStoppedAsync(kind, deviceState, cancellation);

        public Task<long> PassTokenAsync(Epoch epoch, CancellationToken cancellation) => inner.PassTokenAsync(epoch, cancellation);

        public Task ServePullAsync(CancellationToken cancellation) => inner.ServePullAsync(cancellation);

        public async ValueTask DisposeAsync()
        {
            await inner.DisposeAsync();
            if (Interlocked.Exchange(ref _closed, 1) == 0)
                closed();
        }
    }
}
