using Fabric.Core;

namespace Fabric.Migration;

/// <summary>The numbers that a push has measured so far. All of them are of one moment: the end of a round, or a look in the middle of one.</summary>
/// <param name="Mode">What was asked for.</param>
/// <param name="Round">Rounds that ended, from 1; in the middle of a round, or before the first one, of those before it.</param>
/// <param name="DirtyBytes">
/// Bytes that would have to be sent with the VM stopped if no other round followed. In the middle of a round: of the pages whose turn is over.
/// </param>
/// <param name="WireRate">Bytes a second on the wire; 0 when nothing was sent that could be measured.</param>
/// <param name="DirtyRate">Bytes a second that the guest made dirty, as the last round counts them: each page once.</param>
/// <param name="PreviousDirty"><paramref name="DirtyBytes"/> at the end of each earlier round since the guest's speed was last changed, oldest first.</param>
/// <param name="MaxDowntimeMs">Milliseconds; what the user allows.</param>
/// <param name="FixedStopCostMs">Milliseconds of a stop that do not depend on memory: stop, device state, resume.</param>
/// <param name="Elapsed">Since the push began.</param>
/// <param name="SentBytes">Bytes of pages sent so far, each page as often as it was sent.</param>
/// <param name="LeftBytes">Bytes of the round under way that are still to be sent; 0 at the end of a round.</param>
/// <param name="HotBytes">Bytes of pages that the guest writes all the time, in windows of <see cref="Convergence.HotWindowMs"/> or more.</param>
/// <param name="FreshRate">Bytes a second of pages that the guest writes and had not just written before; 0 while that is not known.</param>
/// <param name="WrittenBytes">Bytes of pages that the guest wrote in the two windows that <paramref name="FreshRate"/> compares, each page once; 0 while that is not known.</param>
/// <param name="LineRate">Bytes a second on the line: fewer than <paramref name="WireRate"/> counts, where pages are packed; 0 while that is not known.</param>
/// <param name="MemoryBytes">Bytes of pages that are no holes: what the first round has, or had, to send. 0 where that is not known.</param>
/// <param name="CpuPercent">Per cent of its CPU time that the guest is left; 100 when nothing holds it back.</param>
/// <param name="CanThrottle">Whether it could be left less.</param>
public sealed record ConvergenceInput(
    MigrationMode Mode, int Round, long DirtyBytes, double WireRate, double DirtyRate, IReadOnlyList<long> PreviousDirty,
    double MaxDowntimeMs, double FixedStopCostMs, TimeSpan Elapsed, long SentBytes = 0, long LeftBytes = 0, long HotBytes = 0, double FreshRate = 0,
    long MemoryBytes = 0, int CpuPercent = 100, bool CanThrottle = false, long WrittenBytes = 0, double LineRate = 0)
{
    /// <summary>Bytes a second to reckon with: measured, or a modest assumption.</summary>
    public double Wire => WireRate > 0 && double.IsFinite(WireRate) ? WireRate : Convergence.UnmeasuredWireRate;

    /// <summary>Bytes a second of pages that cannot be packed.</summary>
    public double Line => LineRate > 0 ? Math.Min(LineRate, Wire) : Wire;

    /// <summary>Milliseconds that so many bytes take on the wire.</summary>
    public double CopyMs(double bytes) => Math.Max(0, bytes) / Wire * 1000;

    /// <summary>Milliseconds for which the VM would stand if it were stopped now and all that is dirty were sent.</summary>
    public double StopMs => FixedStopCostMs + CopyMs(DirtyBytes + LeftBytes);
}

/// <summary>What a push does next, and why: a sentence without a full stop, for the record.</summary>
public abstract record ConvergenceDecision(string Reason)
{
    /// <summary>The VM runs on and another round follows.</summary>
    public sealed record AnotherRound(string Reason) : ConvergenceDecision(Reason);

    /// <summary>Another round follows, with the guest left <paramref name="CpuPercent"/> per cent of its CPU time.</summary>
    public sealed record Throttle(int CpuPercent, string Reason) : ConvergenceDecision(Reason);

    /// <summary>
    /// The VM is stopped. <paramref name="To"/>: PreCopy (all is sent while it stands) or PostCopy (the rest is pulled). <paramref name="DowntimeMs"/>: for how long it is expected to stand.
    /// </summary>
    public sealed record SwitchOver(MigrationMode To, string Reason, double DowntimeMs) : ConvergenceDecision(Reason);

    /// <summary>The push ends, and the VM stays where it is.</summary>
    public sealed record GiveUp(FabricError Error) : ConvergenceDecision(Error.Message);
}
