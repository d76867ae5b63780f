// The two ends of one migration's data plane. The hand-over's order and its crash points are in docs/PROTOCOL.md;
// the frames are in Fabric.Wire/Data. These interfaces are the seam: sockets in production, memory in simulation.
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Transfer;

/// <summary>What both ends agree on before the first page. Sent by the source, checked by the destination.</summary>
public sealed record TransferTerms(MigrationId Migration, int PageSize, long PageCount, int BulkConnections, VerifyLevel Verify);

/// <summary>One push round. Pages, bytes on the wire, and how long it took until the destination confirmed all of it.</summary>
public sealed record RoundReport(int Round, long PagesSent, long PagesZero, long WireBytes, TimeSpan Elapsed, long DirtyAfter);

/// <summary>How a stopped VM's remainder is handed over.</summary>
public enum HandOverKind
{
    /// <summary>Everything is sent before the token.</summary>
    Complete,

    /// <summary>What the destination lacks is listed, stale pages are discarded there, and all of it is pulled after the token.</summary>
    Pull,
}

/// <summary>
/// Source end. One caller at a time, except <see cref="Snapshot"/>. Any exception ends the transfer; dispose it.
/// Codes: unreachable (link), deadline-exceeded, corrupt (verification failed), malformed (the peer broke the protocol), refused-*.
/// </summary>
public interface IOutgoingTransfer : IAsyncDisposable
{
    /// <summary>Current counters; any thread.</summary>
    MigrationStats Snapshot();

    /// <summary>Completes when the transfer is over: with what broke it, or with null when it was disposed. Also while nobody calls anything.</summary>
    Task<FabricError?> Over { get; }

    /// <summary>
    /// First call: every present page. Later calls: what became dirty meanwhile. Returns after the destination confirmed all of it.
    /// Reports how many pages are dirty at its end, without re-arming them.
    /// </summary>
    Task<RoundReport> PushRoundAsync(CancellationToken cancellation);

    /// <summary>
    /// With the VM still running, and no push round after it: does what <see cref="FinishStoppedAsync"/> would otherwise do while the guest stands
    /// (agrees on the terms, looks at which pages exist). Optional; of use only right before.
    /// </summary>
    Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation);

    /// <summary>
    /// With the VM stopped: sends the rest (or the list of it) and the device state, which is being saved meanwhile, includes the pages that
    /// saving dirtied, compares digests if <see cref="VerifyLevel.Full"/>, and returns when the destination says that it would accept the token.
    /// No right to run has moved yet: on any exception the caller may withdraw.
    /// </summary>
    Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation);

    /// <summary>
    /// Sends the run token. Call only after the ledger holds <c>token-sent</c>. Returns when the destination said that the VM runs, with how long
    /// it had been running when that was said. An exception means <em>unknown</em>: only the supervisor can find out.
    /// </summary>
    Task<TimeSpan> PassTokenAsync(Epoch epoch, CancellationToken cancellation);

    /// <summary>After a <see cref="HandOverKind.Pull"/> hand-over: answers wanted pages and pushes the others until the destination has all.</summary>
    Task ServePullAsync(CancellationToken cancellation);
}

/// <summary>What the destination's agent does when the stream says so. Called by the incoming transfer, one call at a time.</summary>
public interface IIncomingHandler
{
    /// <summary>
    /// All memory is here, or holes are trapped and served: load the device state. The VM stays stopped. An exception refuses the hand-over.
    /// </summary>
    Task LoadDeviceStateAsync(ReadOnlyMemory<byte> state, HandOverKind kind, CancellationToken cancellation);

    /// <summary>Record the token durably, then let the VM run; returns when it runs, with how long it has been running (0 where that is not known). An exception means that the token was refused, durably.</summary>
    Task<TimeSpan> AcceptTokenAsync(Epoch epoch, CancellationToken cancellation);

    /// <summary>
    /// After a pull: every page is here and verified as far as was promised. Make that durable; the source is told only afterwards, since it then lets
    /// its copy go. Not called for a <see cref="HandOverKind.Complete"/> hand-over.
    /// </summary>
    Task CompletePullAsync(bool? verified, CancellationToken cancellation);
}

/// <summary>Destination end. <see cref="RunAsync"/> once; <see cref="Snapshot"/> any time from any thread.</summary>
public interface IIncomingTransfer : IAsyncDisposable
{
    MigrationStats Snapshot();

    /// <summary>
    /// Takes pages, hands the device state and the token to <paramref name="handler"/>, and in a pull goes on until every page is here
    /// (verified if <see cref="VerifyLevel.Full"/>). Returns normally only then (or, without a pull, when the VM runs).
    /// An exception before the token was accepted: the incoming machine is useless. After it: the pull is broken and may be resumed with a new connection.
    /// </summary>
    Task RunAsync(IIncomingHandler handler, CancellationToken cancellation);
}
