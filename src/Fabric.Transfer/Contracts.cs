// The two ends of one migration's data plane. The hand-over's order and its crash points are in docs/PROTOCOL.md;
// the frames are in Fabric.Wire/Data. These interfaces are the seam: sockets in production, memory in simulation.
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Transfer;

/// <summary>What both ends agree on before the first page. Sent by the source, checked by the destination.</summary>
/// <param name="Pack">Whether pages may be packed, where both ends can and it pays.</param>
public sealed record TransferTerms(MigrationId Migration, int PageSize, long PageCount, int BulkConnections, VerifyLevel Verify, bool Pack = false);

/// <summary>What is known of a push while it goes on: of the guest, of the wire, and of what is left to be sent.</summary>
/// <param name="SentPages">Pages sent so far in all rounds, each as often as it was sent, zeros among them.</param>
/// <param name="LeftPages">Pages of the round under way whose turn is still to come; 0 at its end.</param>
/// <param name="DirtyPages">Pages that have to be sent after this round: written since they were sent, or held back.</param>
/// <param name="HotPages">Pages that the guest writes all the time, as it looks; some of <paramref name="DirtyPages"/>.</param>
/// <param name="FreshPagesPerSecond">How fast the guest writes pages that it has not just written before; 0 while that is not known.</param>
/// <param name="WrittenPages">Pages that the guest wrote in the two windows that this compares, each once; 0 while that is not known.</param>
/// <param name="WireRate">Bytes of pages a second that the wire carries, however they are written; 0 while that is not known.</param>
/// <param name="LineRate">Bytes a second on the wire, packed as they are; 0 while that is not known.</param>
/// <param name="MemoryPages">Pages that were no holes when the first round began.</param>
public sealed record PushLook(long SentPages, long LeftPages, long DirtyPages, long HotPages, double FreshPagesPerSecond, double WireRate, long MemoryPages, long WrittenPages = 0, double LineRate = 0);

/// <summary>
/// One push round. Pages, bytes on the wire, and how long it took until the destination confirmed all of it. <paramref name="DirtyAfter"/>: pages that have to be sent after it,
/// also those that it held back or did not come to. <paramref name="Last"/>: what was known at its end; null where a transfer does not look.
/// </summary>
public sealed record RoundReport(int Round, long PagesSent, long PagesZero, long WireBytes, TimeSpan Elapsed, long DirtyAfter, PushLook? Last = null);

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
    /// First call: every present page. Later calls: what became dirty meanwhile. Pages that are expected to be written again before the round is over
    /// are held back: they stay dirty. Returns after the destination confirmed all that was sent, with how many pages are dirty then.
    /// </summary>
    /// <param name="goesOn">
    /// Asked in the middle of a long round, on any thread: false breaks the round off, and what it did not come to stays dirty. A transfer that does not look never asks.
    /// </param>
    Task<RoundReport> PushRoundAsync(Func<PushLook, bool> goesOn, CancellationToken cancellation);

    /// <summary>
    /// With the VM still running, and no push round after it: does what <see cref="FinishStoppedAsync"/> would otherwise do while the guest stands
    /// (agrees on the terms, looks at which pages exist). Optional. Before a pull without a push what the guest writes from the first such call on is known to be hot, and what it does not write is pushed from
    /// then on, what it reads first, for some <see cref="TransferSettings.WorkingSetTime"/>; the second call, right before the stop, ends that.
    /// </summary>
    Task PrepareFinishAsync(HandOverKind kind, CancellationToken cancellation);

    /// <summary>
    /// With the VM stopped: sends the rest (or the list of it) and the device state, which is being saved meanwhile, includes the pages that
    /// saving dirtied, compares digests if <see cref="VerifyLevel.Full"/>, and returns when the destination says that it would accept the token.
    /// No right to run has moved yet: on any exception the caller may withdraw.
    /// </summary>
    Task FinishStoppedAsync(HandOverKind kind, Task<byte[]> deviceState, CancellationToken cancellation);

    /// <summary>
    /// Sends the run token. Call only after the ledger holds <c>token-sent</c>. Returns when the destination said that the VM runs: the clock's
    /// time stamp since when it runs, at the latest. After a <see cref="HandOverKind.Pull"/> hand-over what is missing is pushed from then on. An exception means <em>unknown</em>: only the supervisor can find out.
    /// </summary>
    Task<long> PassTokenAsync(Epoch epoch, CancellationToken cancellation);

    /// <summary>After a <see cref="HandOverKind.Pull"/> hand-over: wanted pages are answered, the others pushed; returns when the destination has all.</summary>
    Task ServePullAsync(CancellationToken cancellation);
}

public static class WholeRounds
{
    /// <summary>A push round that nothing breaks off.</summary>
    public static Task<RoundReport> PushRoundAsync(this IOutgoingTransfer transfer, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(transfer);
        return transfer.PushRoundAsync(static _ => true, cancellation);
    }
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
