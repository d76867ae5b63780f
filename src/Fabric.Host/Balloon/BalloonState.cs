using Fabric.Actors;
using Fabric.Machines;
using Fabric.Migration.Ballooning;

namespace Fabric.Host.Balloon;

/// <summary>
/// What was last seen: bytes that the guest has left to itself, its statistics where it gives any, and whether its driver empties the balloon before its kernel would kill (null: not asked
/// this time).
/// </summary>
internal sealed record BalloonReading(long Actual, BalloonStatistics? Statistics, bool? DeflatesOnOom)
{
    internal GuestReading ForTheLoop => new(Actual, Statistics?.ReportedAt, Statistics?.Free, Statistics?.Available, Statistics?.MajorFaults, Swapped(Statistics));

    private static long? Swapped(BalloonStatistics? s) => s is { SwapIn: null, SwapOut: null } or null ? null : (s.SwapIn ?? 0) + (s.SwapOut ?? 0);
}

internal abstract record BalloonState
{
    internal sealed record Detached : BalloonState;

    /// <summary>A machine with a balloon that no loop fills; <paramref name="Target"/> is what was asked for last, <paramref name="Reading"/> what was seen last.</summary>
    internal sealed record Attached(IMachine Machine, long? Target, BalloonReading? Reading) : BalloonState;

    /// <summary>Memory is being taken, and <paramref name="Waiter"/>'s push waits for it.</summary>
    internal sealed record Taking(IMachine Machine, SelfBalloonState Loop, IReply<long> Waiter) : BalloonState;

    /// <summary>What was taken is held while it need not be sent.</summary>
    internal sealed record Holding(IMachine Machine, SelfBalloonState Loop) : BalloonState;

    /// <summary>The VM has a loop of its own, which has nothing to do now.</summary>
    internal sealed record Resting(IMachine Machine, SelfBalloonState Loop) : BalloonState;

    /// <summary>The VM's own loop takes and gives back. <paramref name="Reading"/>: what was seen last.</summary>
    internal sealed record Keeping(IMachine Machine, SelfBalloonState Loop, BalloonReading? Reading) : BalloonState;
}
