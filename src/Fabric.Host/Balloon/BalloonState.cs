using Fabric.Machines;

namespace Fabric.Host.Balloon;

/// <summary>What the guest last said: bytes it has left to itself, and its statistics where it gives any.</summary>
internal sealed record BalloonReading(long Actual, BalloonStatistics? Statistics);

internal abstract record BalloonState
{
    internal sealed record Detached : BalloonState;

    /// <summary>A machine with a balloon; <paramref name="Target"/> is what was asked for last, <paramref name="Reading"/> what was seen last.</summary>
    internal sealed record Attached(IMachine Machine, long? Target, BalloonReading? Reading) : BalloonState;
}
