using System.Globalization;
using Fabric.Benchmarks.Moving;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

public enum MoveMode
{
    PreCopy,
    PostCopy,

    /// <summary>The mover chooses, also in the middle of the move.</summary>
    Auto,
}

/// <summary>The guest that every mover boots afresh for every run, so that no run inherits anything from another.</summary>
/// <param name="Kernel">Absolute path.</param>
/// <param name="Initrd">Absolute path.</param>
/// <param name="Append">Words for the kernel command line that choose the workload.</param>
/// <param name="MemoryBytes">RAM of the guest.</param>
/// <param name="Accelerator">kvm or tcg, as QEMU names it.</param>
public sealed record GuestImage(string Kernel, string Initrd, string Append, long MemoryBytes, string Accelerator);

/// <summary>One move that is to be made.</summary>
/// <param name="Within">A move that has not ended by then is called off, and is a result all the same: <see cref="MoveResult.NoEnd"/>.</param>
/// <param name="Window">For how long, from the moment at which the move is asked for, the guest's own work is looked at; zero: not at all.</param>
/// <param name="Balloon">The guest's own balloon loop, which is waited for until it has nothing more to take.</param>
public sealed record PlannedMove(GuestImage Guest, MoveMode Mode, TimeSpan Within, TimeSpan Window, BalloonSpec? Balloon = null);

/// <summary>One move, measured. Times in milliseconds; null where it could not be measured, never a guess.</summary>
/// <param name="Mover">Name of who moved it.</param>
/// <param name="TotalMs">
/// From the moment at which the destination's QEMU waits for the state and everything is set up, until the source holds nothing that
/// the guest needs and the guest runs at the destination. For Fabric the content check is inside.
/// </param>
/// <param name="DowntimeMs">Guest stopped → guest running, as the mover itself measures it.</param>
/// <param name="OwnDowntimeMs">Downtime by the mover's own statistics; null if it keeps none. QEMU's counts only the source's part in post-copy.</param>
/// <param name="GuestStoppedMs">Downtime as the guest itself saw it: see HeartbeatLog.</param>
/// <param name="GuestGapMs">Longest time in which the running guest could not go on, over the whole move.</param>
/// <param name="LostWorkMs">How far the guest's work fell behind within the window, at most: see <see cref="GuestWork"/>.</param>
/// <param name="WireBytes">Bytes of memory traffic.</param>
/// <param name="Rounds">Passes over the memory.</param>
/// <param name="Verified">Whether the mover compared what arrived with what was sent; null where it has no such check.</param>
/// <param name="GuestClean">Whether the guest went on after the move and found no error in its memory up to the end of the run.</param>
/// <param name="Parts">Where the downtime went; null where the mover does not say.</param>
/// <param name="Failure">Why there is no result; all else is then meaningless.</param>
/// <param name="PaceAfter">The guest's pace when the move was long over, by that before it: see <see cref="WorkLost"/>.</param>
/// <param name="NoEnd">The failure is that the move did not end in its time.</param>
public sealed record MoveResult(
    string Mover, MoveMode Mode, double TotalMs, double DowntimeMs, double? OwnDowntimeMs, double? GuestStoppedMs, double? GuestGapMs,
    double? LostWorkMs, long WireBytes, long? Rounds, bool? Verified, bool GuestClean, string? Failure = null, bool NoEnd = false, HandOverParts? Parts = null, double? PaceAfter = null)
{
    /// <summary>With what was seen until the window was over. The work of a guest whose memory is broken says nothing of the move.</summary>
    public MoveResult After(WorkLost? lost, bool clean) =>
        this with { GuestClean = GuestClean && clean, LostWorkMs = GuestClean && clean ? lost?.Ms : null, PaceAfter = GuestClean && clean ? lost?.PaceAfter : null };

    public static MoveResult Failed(string mover, MoveMode mode, string why) =>
        new(mover, mode, 0, 0, null, null, null, null, 0, null, null, GuestClean: false, why);

    /// <summary>The move was called off. What a guest that was then ended made of its memory is not known, and no error is held against it.</summary>
    public static MoveResult Endless(string mover, MoveMode mode, TimeSpan within) =>
        Failed(mover, mode, string.Create(CultureInfo.InvariantCulture, $"no end in {within.TotalSeconds:0} s")) with { NoEnd = true, GuestClean = true };
}

/// <summary>Somebody who can move a running guest between two QEMU processes of this machine.</summary>
public interface IMover
{
    string Name { get; }

    /// <summary>Why this mover cannot be used here; null when it can.</summary>
    string? Unavailable { get; }

    /// <summary>Whether it has this way to move.</summary>
    bool Knows(MoveMode mode);

    /// <summary>
    /// Boots the guest, waits until its workload runs and its clocks are known, moves it once, watches it for some seconds and ends
    /// it. Leaves nothing behind, however it ends. A move that fails is a result with <see cref="MoveResult.Failure"/>.
    /// </summary>
    Task<MoveResult> MoveAsync(PlannedMove move, CancellationToken cancellation);
}
