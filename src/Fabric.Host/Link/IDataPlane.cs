using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;

namespace Fabric.Host.Link;

/// <summary>
/// What the source knows when it connects. <paramref name="Resume"/>: the VM already runs there and misses pages. <paramref name="Plan"/>: in which order they are pushed.
/// </summary>
public sealed record OutgoingRoute(HostName Peer, DataEndpoint Endpoint, Ticket Ticket, TransferTerms Terms, long? BandwidthBytesPerSecond, bool Resume, PullPlan Plan);

/// <summary>Whom the destination lets in. <paramref name="PullMap"/>: the file that remembers, across a restart of the agent, which pages are still to come.</summary>
public sealed record IncomingRoute(MigrationId Migration, Ticket Ticket, VerifyLevel Verify, long PageCount, string PullMap);

/// <summary>The network as the host's actors see it: sockets in production, memory in simulation.</summary>
public interface IDataPlane : IAsyncDisposable
{
    /// <summary>Where sources connect.</summary>
    DataEndpoint Endpoint { get; }

    /// <param name="route">Where to.</param>
    /// <param name="memory">Its machine may end while the connections are made; then this fails.</param>
    /// <param name="looks">The guest is pulled and nothing is pushed first: the look at it begins with the connecting.</param>
    /// <param name="cancellation">Calls it off.</param>
    Task<IOutgoingTransfer> ConnectAsync(OutgoingRoute route, IGuestMemory memory, bool looks, CancellationToken cancellation);

    /// <summary>From now on a source with this ticket is let in.</summary>
    IIncomingDoor Expect(IncomingRoute route, IGuestMemory memory);

    /// <summary>Closes streams beside the caller: with sockets it joins threads, so it is not done on an actor's turn. The work handles its own errors.</summary>
    void Beside(Func<Task> work) => _ = Task.Run(work);
}

/// <summary>
/// The way in for one migration's source; owns what must outlive a broken connection. Disposing it closes the door and lets the map of
/// missing pages go (the file stays for a restarted agent); it must be disposed after the last transfer that came through it.
/// </summary>
public interface IIncomingDoor : IDisposable
{
    /// <summary>The transfer for the source's next set of connections: the first one, or after a broken pull the one that resumes it.</summary>
    IIncomingTransfer Next();
}
