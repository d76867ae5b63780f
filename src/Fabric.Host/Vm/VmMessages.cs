using Fabric.Actors;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Vm;

/// <summary>Everything that a VM's actor hears. The set is closed.</summary>
public abstract record VmMessage;

/// <summary>A supervisor asks.</summary>
internal sealed record Execute(AgentCommand Command, IReply<CommandResult> Reply) : VmMessage;

/// <summary>Answered once the ledger was read, what it says was done, and the facts say so.</summary>
internal sealed record RecoveryAwaited(IReply<bool> Reply) : VmMessage;

/// <summary>A machine asked for by CreateVm or PrepareIncoming was made, or not.</summary>
internal sealed record MachineMade(AgentCommand Command, IMachine? Machine, FabricError? Error) : VmMessage;

internal sealed record MachineExited(IMachine Machine, string How) : VmMessage;

/// <summary>The push has done what it can, and <paramref name="Why"/> that is so; it goes on until it is told to stop.</summary>
internal sealed record PushConverged(MigrationId Migration, MigrationMode Mode, string Why) : VmMessage;

/// <summary>The outgoing stream broke while the VM runs here.</summary>
internal sealed record PushBroke(MigrationId Migration, FabricError Error) : VmMessage;

/// <summary>The guest's balloon holds what it could take ahead of this push, or could take nothing: copying may begin.</summary>
internal sealed record MemoryTaken(MigrationId Migration) : VmMessage;

/// <summary>The guest was told that its memory is its own again, or could not be told.</summary>
internal sealed record MemoryGivenBack(MigrationId Migration, FabricError? Error) : VmMessage;

/// <summary>The guest's memory could not be given back: try again.</summary>
internal sealed record GiveBackAgain : VmMessage;

/// <summary>Counters of the running transfer.</summary>
internal sealed record Progress(MigrationId Migration, MigrationStats Stats) : VmMessage;

/// <summary>The hand-over asks to make <c>token-sent</c> durable. Fails if the hand-over was called off meanwhile.</summary>
internal sealed record RecordTokenSent(MigrationId Migration, Epoch Epoch, IReply<bool> Reply) : VmMessage;

internal sealed record HandOverEnded(MigrationId Migration, Epoch Epoch, HandOverKind Kind, HandOverOutcome Outcome) : VmMessage;

/// <summary>The destination, which still needs pages from here, cannot be reached or lets nobody in; or it is served again.</summary>
internal sealed record ServingStalled(MigrationId Migration, bool Stalled) : VmMessage;

/// <summary>The destination has pulled everything.</summary>
internal sealed record PullServed(MigrationId Migration) : VmMessage;

/// <summary>The incoming stream's device state is loaded: the token would be accepted.</summary>
internal sealed record IncomingReady(MigrationId Migration, HandOverKind Kind) : VmMessage;

/// <summary>The run token has arrived. The reply fails only after the refusal is durable.</summary>
internal sealed record TokenArrived(MigrationId Migration, Epoch Epoch, IReply<bool> Reply) : VmMessage;

/// <summary>Every page is here; the reply succeeds once that is durable, and only then may the source let its copy go.</summary>
internal sealed record PullArrived(MigrationId Migration, bool? Verified, IReply<bool> Reply) : VmMessage;

/// <summary>The incoming stream ended: all pages are here (no error), or it broke.</summary>
internal sealed record IncomingEnded(MigrationId Migration, FabricError? Error) : VmMessage;

/// <summary>The link to the source is up again while pages are missing.</summary>
internal sealed record PullResumed(MigrationId Migration) : VmMessage;

/// <summary>The right to run is here and the machine did not continue at once: try again.</summary>
internal sealed record ContinueAgain(int Attempt) : VmMessage;

/// <summary>The network was told that the VM is here, or could not be.</summary>
internal sealed record Announced(FabricError? Error) : VmMessage;

/// <summary>The machine could not be adopted (it is busy, or somebody holds its connection): try again.</summary>
internal sealed record RecoverAgain : VmMessage;

/// <summary>How passing the token went.</summary>
internal abstract record HandOverOutcome
{
    /// <summary>The token reached no socket: the VM may run here again.</summary>
    internal sealed record NotSent(FabricError Error) : HandOverOutcome;

    /// <summary>The token may have reached the destination: nobody here may decide.</summary>
    internal sealed record Unknown(FabricError Error) : HandOverOutcome;

    /// <summary>The VM runs at the destination; <paramref name="Downtime"/> from the stop here to hearing so.</summary>
    internal sealed record Passed(TimeSpan Downtime) : HandOverOutcome;
}
