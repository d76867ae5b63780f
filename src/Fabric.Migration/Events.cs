// What happened to one migration, in the order in which it was made durable. Kinds are stable names (EventCodec.cs); a field is added with a
// default, never renamed; a changed meaning is a new version.
using Fabric.Core;

namespace Fabric.Migration;

/// <summary><paramref name="At"/>: the control node's clock when it decided.</summary>
public abstract record MigrationEvent(DateTimeOffset At);

public sealed record MigrationPlanned(DateTimeOffset At, MigrationPlan Plan) : MigrationEvent(At);

/// <summary>The destination's incoming machine waits at <paramref name="Place"/>.</summary>
public sealed record DestinationPrepared(DateTimeOffset At, IncomingPlace Place) : MigrationEvent(At);

/// <summary>The source said that it copies.</summary>
public sealed record PushStarted(DateTimeOffset At) : MigrationEvent(At);

/// <summary>Intent, before the command: the source may stop the VM and pass the token. <paramref name="Kind"/>: PreCopy (nothing missing) or PostCopy (the rest is pulled). <paramref name="Why"/>: what the source's rounds showed.</summary>
public sealed record HandOverIntended(DateTimeOffset At, Epoch Epoch, MigrationMode Kind, string? Why = null) : MigrationEvent(At);

/// <summary>
/// The hosts' ledgers hold a hand-over of this migration that the journal does not: its store was put back to an older copy. From here on it is as intended.
/// <paramref name="Place"/>: where the destination takes pages in, and its life, as seen now.
/// </summary>
public sealed record HandOverFound(DateTimeOffset At, Epoch Epoch, MigrationMode Kind, IncomingPlace Place) : MigrationEvent(At);

/// <summary>The source stated that the token did not leave and will not.</summary>
public sealed record HandOverWithdrawn(DateTimeOffset At, FabricError Cause) : MigrationEvent(At);

/// <summary>The token may have left; who may run is to be learnt from the destination.</summary>
public sealed record TokenOutcomeUnknown(DateTimeOffset At) : MigrationEvent(At);

/// <summary>An agent stated durably that the destination accepted the token.</summary>
public sealed record HandedOver(DateTimeOffset At, Epoch Epoch) : MigrationEvent(At);

/// <summary>The destination refused durably; intent to let the source run again at <paramref name="Epoch"/>, above the refused one.</summary>
public sealed record TakeBackIntended(DateTimeOffset At, Epoch Epoch, Epoch RefusedEpoch, FabricError Cause) : MigrationEvent(At);

/// <summary>The destination needs nothing more from the source. The numbers so far: the source's are gone once it is released.</summary>
public sealed record PullCompleted(DateTimeOffset At, Outcome Outcome) : MigrationEvent(At);

/// <summary>The source's machine is gone, or (<paramref name="Deferred"/>) its host cannot be asked and is told when it comes back. Ends the migration.</summary>
public sealed record SourceReleased(DateTimeOffset At, Outcome Outcome, bool Deferred = false) : MigrationEvent(At);

/// <summary>Somebody asked to give up, in time.</summary>
public sealed record AbortRequested(DateTimeOffset At, string Reason) : MigrationEvent(At);

/// <summary>A step before the hand-over failed; what was begun is to be undone.</summary>
public sealed record StepFailed(DateTimeOffset At, FabricError Cause) : MigrationEvent(At);

/// <summary><paramref name="Skipped"/>: why it could be left out, when it was not confirmed by the host.</summary>
public sealed record UndoDone(DateTimeOffset At, UndoStep Step, string? Skipped = null) : MigrationEvent(At);

/// <summary>Everything is undone. Ends the migration as failed, or as aborted when somebody asked.</summary>
public sealed record MigrationUndone(DateTimeOffset At, Outcome Outcome) : MigrationEvent(At);

/// <summary>The destination cannot be asked for longer than the deadline and may run the VM.</summary>
public sealed record FencingNeeded(DateTimeOffset At, string Why) : MigrationEvent(At);

/// <summary>The destination can be asked again; the migration goes on where it was.</summary>
public sealed record DestinationReturned(DateTimeOffset At) : MigrationEvent(At);

/// <summary>Something outside proved that the destination does not run and will not run the VM.</summary>
public sealed record DestinationFenced(DateTimeOffset At, string Proof) : MigrationEvent(At);

public sealed record RecoveryCompleted(DateTimeOffset At, HostName Host, Epoch Epoch, Outcome Outcome) : MigrationEvent(At);

/// <summary>The VM's memory is gone. Ends the migration. <paramref name="Where"/> holds the right to run at <paramref name="Epoch"/>.</summary>
public sealed record VmLost(DateTimeOffset At, HostName Where, Epoch Epoch, FabricError Cause, Outcome Outcome) : MigrationEvent(At);
