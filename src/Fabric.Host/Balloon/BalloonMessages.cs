using Fabric.Actors;
using Fabric.Machines;

namespace Fabric.Host.Balloon;

/// <summary>Everything that a VM's balloon actor hears.</summary>
public abstract record BalloonMessage;

/// <summary>Ask the guest of this machine to shrink or grow to so many bytes.</summary>
internal sealed record SetTarget(IMachine Machine, long Bytes, IReply<bool> Reply) : BalloonMessage;

internal sealed record MachineAttached(IMachine Machine) : BalloonMessage;

internal sealed record MachineDetached : BalloonMessage;

internal sealed record Poll : BalloonMessage;

internal sealed record Polled(IMachine Machine, BalloonReading? Reading) : BalloonMessage;
