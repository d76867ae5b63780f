// The durable phases of one migration, one record each. A state holds only what is true in it, and its comment says who may run
// the VM meanwhile. States are never stored: they are what the events of the stream add up to (Transitions.cs).
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>
/// What was agreed when the migration began and never changes. <paramref name="RunEpoch"/> (e) is the epoch at which the source owns
/// the VM; <paramref name="TokenEpoch"/> is the first epoch that was never used (e+1, or higher when hand-overs were burnt before).
/// <paramref name="Limits"/>: of the batch; the agents at both ends keep them. Null for a move of its own, which waits for no other.
/// </summary>
public sealed record MigrationPlan(
    MigrationId Id, VmSpec Spec, HostName Source, HostName Destination, MigrationOptions Options, Epoch RunEpoch, Epoch TokenEpoch,
    Ticket Ticket, DateTimeOffset PlannedAt, string? Batch = null, Guid? RequestId = null, BatchLimits? Limits = null)
{
    [System.Text.Json.Serialization.JsonIgnore]
    public VmName Vm => Spec.Name;

    /// <summary>The epoch at which the source runs again after the token was refused. Above the burnt one.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public Epoch TakeBackEpoch => TokenEpoch.Next;
}

/// <summary>
/// <paramref name="Since"/>: when the phase was entered, by the clock of the control node that journaled it. It is used for
/// deadlines after which somebody is <em>asked</em>; no time decides who may run.
/// </summary>
public abstract record MigrationState(DateTimeOffset Since)
{
    /// <summary>The phase's stable name in reports.</summary>
    public abstract string Name { get; }
}

/// <summary>Before the first event of the stream.</summary>
public sealed record Unborn() : MigrationState(DateTimeOffset.MinValue)
{
    public static Unborn Instance { get; } = new();

    public override string Name => "unborn";
}

/// <summary>A migration that has begun.</summary>
public abstract record KnownState(MigrationPlan Plan, DateTimeOffset Since) : MigrationState(Since);

/// <summary>A migration that is not over: somebody still has something to do for it.</summary>
public abstract record ActiveState(MigrationPlan Plan, DateTimeOffset Since) : KnownState(Plan, Since);

/// <summary>The source runs the VM. The destination may be making an incoming machine.</summary>
public sealed record Planned(MigrationPlan Plan, DateTimeOffset Since) : ActiveState(Plan, Since)
{
    public override string Name => "planned";
}

/// <summary>The source runs the VM and may have begun to push. The destination's machine waits to be filled.</summary>
public sealed record Prepared(MigrationPlan Plan, DateTimeOffset Since, IncomingPlace Place) : ActiveState(Plan, Since)
{
    public override string Name => "prepared";
}

/// <summary>The source runs the VM and copies in rounds.</summary>
public sealed record Pushing(MigrationPlan Plan, DateTimeOffset Since, IncomingPlace Place) : ActiveState(Plan, Since)
{
    public override string Name => "pushing";
}

/// <summary>
/// The hand-over at <see cref="MigrationPlan.TokenEpoch"/> is intended. The source runs the VM, or stops it; the source may go back by itself as long
/// as the token has not left. The destination runs it once it recorded the token.
/// </summary>
public sealed record Stopping(MigrationPlan Plan, DateTimeOffset Since, IncomingPlace Place, MigrationMode Kind) : ActiveState(Plan, Since)
{
    public override string Name => "stopping";
}

/// <summary>The token may have left and nobody said what became of it. The source may not run; the destination may if it recorded the token.</summary>
public sealed record TokenSent(MigrationPlan Plan, DateTimeOffset Since, IncomingPlace Place, MigrationMode Kind) : ActiveState(Plan, Since)
{
    public override string Name => "token-sent";
}

/// <summary>The destination runs the VM and fetches what it misses (nothing, after a pre-copy). The source never runs it again.</summary>
public sealed record Pulling(MigrationPlan Plan, DateTimeOffset Since, MigrationMode Kind) : ActiveState(Plan, Since)
{
    public override string Name => "pulling";
}

/// <summary>
/// The destination cannot be asked and nothing proves that it does not run the VM. Nobody may start it elsewhere.
/// <paramref name="Interrupted"/> is where the migration goes on if the destination comes back.
/// </summary>
public sealed record NeedsFencing(MigrationPlan Plan, DateTimeOffset Since, ActiveState Interrupted) : ActiveState(Plan, Since)
{
    public override string Name => "needs-fencing";
}

/// <summary>The destination is fenced (<paramref name="Proof"/> says how). The VM is being restored from its last complete copy.</summary>
public sealed record Recovering(MigrationPlan Plan, DateTimeOffset Since, string Proof) : ActiveState(Plan, Since)
{
    public override string Name => "recovering";
}

/// <summary>
/// What was begun is undone, last step first (<paramref name="Remaining"/>, never empty of meaning: an empty list ends the migration). The source runs the VM,
/// except while <see cref="UndoStep.TakeBack"/> is still to be done: then nobody runs it, and the destination never will.
/// </summary>
public sealed record Aborting(MigrationPlan Plan, DateTimeOffset Since, UndoList Remaining, FabricError Cause, bool Asked, Epoch HighestEpoch)
    : ActiveState(Plan, Since)
{
    public override string Name => "aborting";
}

/// <summary>The destination runs the VM and needs nothing. The source's stopped machine is being removed.</summary>
public sealed record Cleanup(MigrationPlan Plan, DateTimeOffset Since, Outcome Outcome) : ActiveState(Plan, Since)
{
    public override string Name => "cleanup";
}

/// <summary>
/// Over for ever; nothing follows. <paramref name="Owner"/> is where the VM's right to run is, at <paramref name="OwnerEpoch"/>;
/// epochs up to <paramref name="HighestEpoch"/> are used and may never be used again.
/// </summary>
public abstract record TerminalState(
    MigrationPlan Plan, DateTimeOffset Since, HostName Owner, Epoch OwnerEpoch, Epoch HighestEpoch, FabricError? Error, Outcome Outcome)
    : KnownState(Plan, Since);

/// <summary>The numbers of the whole migration, both agents' merged, and the mode that was really used.</summary>
public sealed record Outcome(MigrationStats Stats, MigrationMode Mode);

public sealed record Completed(MigrationPlan Plan, DateTimeOffset Since, Outcome Outcome)
    : TerminalState(Plan, Since, Plan.Destination, Plan.TokenEpoch, Plan.TokenEpoch, null, Outcome)
{
    public override string Name => "completed";
}

/// <summary>It could not be done; the source owns the VM.</summary>
public sealed record Failed(MigrationPlan Plan, DateTimeOffset Since, Epoch OwnerEpoch, Epoch HighestEpoch, FabricError Cause, Outcome Outcome)
    : TerminalState(Plan, Since, Plan.Source, OwnerEpoch, HighestEpoch, Cause, Outcome)
{
    public override string Name => "failed";
}

/// <summary>Somebody asked to stop it; the source owns the VM.</summary>
public sealed record Aborted(MigrationPlan Plan, DateTimeOffset Since, Epoch OwnerEpoch, Epoch HighestEpoch, FabricError Cause, Outcome Outcome)
    : TerminalState(Plan, Since, Plan.Source, OwnerEpoch, HighestEpoch, Cause, Outcome)
{
    public override string Name => "aborted";
}

/// <summary>The destination died and was fenced; the VM runs at <paramref name="At"/> from its last complete copy.</summary>
public sealed record Recovered(MigrationPlan Plan, DateTimeOffset Since, HostName At, Epoch AtEpoch, Outcome Outcome)
    : TerminalState(Plan, Since, At, AtEpoch, AtEpoch, null, Outcome)
{
    public override string Name => "recovered";
}

/// <summary>The VM's memory is gone. <paramref name="Where"/> holds the right to run what is left, and the machine, if one is there.</summary>
public sealed record Lost(MigrationPlan Plan, DateTimeOffset Since, HostName Where, Epoch AtEpoch, FabricError Cause, Outcome Outcome)
    : TerminalState(Plan, Since, Where, AtEpoch, AtEpoch, Cause, Outcome)
{
    public override string Name => "lost";
}

/// <summary>Where the destination takes pages in, and which life of its agent said so: a later one has refused whatever was prepared.</summary>
public sealed record IncomingPlace(DataEndpoint Endpoint, Guid Incarnation);
