using Fabric.Migration;

namespace Fabric.Chaos.Rows;

/// <summary>Who is killed.</summary>
public enum Victim
{
    SourceAgent,
    DestinationAgent,
    DestinationMachine,
    Supervisor,

    /// <summary>Not killed but stopped, until its lease is over and others have gone on; then continued.</summary>
    FrozenSupervisor,
}

/// <summary>One record of one daemon: alpha (the source), beta (the destination) or control; before or after it is durable.</summary>
public sealed record Step(string Daemon, string Moment, string Kind)
{
    public const string Source = "alpha";
    public const string Destination = "beta";
    public const string Control = "control";
    public const string Before = "before";
    public const string After = "after";

    public override string ToString() => $"{Moment} {Kind} at {Daemon}";
}

/// <summary>What makes a migration take a way on which a record is written at all.</summary>
public enum Way
{
    /// <summary>Undisturbed.</summary>
    Forward,

    /// <summary>The destination's agent is killed while the source pushes.</summary>
    PushBreaks,

    /// <summary>The destination's agent is killed when the hand-over has begun and the token has not been recorded.</summary>
    HandOverBreaks,

    /// <summary>The destination has the token and is slow to record it, until the supervisor has seen that its outcome is open and the row's victim is dead.</summary>
    TokenWaits,

    /// <summary>The destination's agent is killed when it has the token and has not recorded it.</summary>
    TokenLost,

    /// <summary>The destination's agent is killed while it prepares: its next life refuses.</summary>
    PreparationBreaks,

    /// <summary>The destination's machine is killed in the pull.</summary>
    PullDies,

    /// <summary>Somebody gives the migration up while the source pushes.</summary>
    Abort,

    /// <summary>The destination's agent is killed in the pull and stays away until an operator is asked for: a minute.</summary>
    DestinationSilent,
}

public sealed record ChaosRow(Step At, Victim Victim, MigrationMode Mode, Way Way)
{
    public override string ToString() => $"{Victim} killed {At}, {Mode}, {Way}";
}
