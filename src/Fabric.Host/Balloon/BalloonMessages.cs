using Fabric.Actors;
using Fabric.Machines;

namespace Fabric.Host.Balloon;

/// <summary>Everything that a VM's balloon actor hears.</summary>
public abstract record BalloonMessage;

/// <summary>Ask the guest of this machine to shrink or grow to so many bytes.</summary>
internal sealed record SetTarget(IMachine Machine, long Bytes, IReply<bool> Reply) : BalloonMessage;

/// <summary>May memory be taken from this guest for a migration? Answered after a look at it.</summary>
internal sealed record MayTake(IMachine Machine, IReply<bool> Reply) : BalloonMessage;

/// <summary>Take what is free; answered with the bytes taken when there is nothing more to gain, or after <see cref="BalloonActor.TakeLimit"/>. Memory is held, and pressure looked for, until it is given back.</summary>
internal sealed record TakeFree(IMachine Machine, IReply<long> Reply) : BalloonMessage;

/// <summary>Take nothing more, and let the guest have so many bytes. Answered when it was told.</summary>
internal sealed record GiveBack(IMachine Machine, long Bytes, IReply<bool> Reply) : BalloonMessage;

/// <summary>What the loop of a VM that has one may do now. A level: the last word counts.</summary>
internal enum BalloonDuty
{
    /// <summary>Nothing: the guest stands, or may not run here.</summary>
    Rest,

    /// <summary>Give back under pressure and take nothing: its memory is being moved.</summary>
    Watch,

    /// <summary>Take what is free, and give back under pressure.</summary>
    Keep,
}

internal sealed record Direct(IMachine Machine, BalloonDuty Duty) : BalloonMessage;

internal sealed record MachineAttached(IMachine Machine) : BalloonMessage;

internal sealed record MachineDetached : BalloonMessage;

internal sealed record Poll : BalloonMessage;

internal sealed record Polled(IMachine Machine, BalloonReading? Reading) : BalloonMessage;

/// <summary>The push has waited long enough.</summary>
internal sealed record TakenLongEnough(IReply<long> Waiter) : BalloonMessage;
