using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Vm;

/// <summary>Work that takes longer than a message; one at a time, commands that would disturb it are refused meanwhile.</summary>
internal abstract record VmWork
{
    internal sealed record None : VmWork;

    /// <summary>A machine is being made for a command whose askers wait.</summary>
    internal sealed record Making(AgentCommand Command, List<IReply<CommandResult>> Askers) : VmWork;

    /// <summary>The switch-over is under way at the source; <paramref name="Cancel"/> calls it off as long as the token has not left.</summary>
    internal sealed record HandingOver(MigrationId Migration, Epoch Epoch, CancellationTokenSource Cancel) : VmWork;
}

/// <summary>The rounds have done what they can: the mode that the source proposes, and why.</summary>
internal sealed record Converged(MigrationMode Mode, string Why);

/// <summary>
/// What the actor knows beyond its ledger: true only while this process lives. Field groups by who sets them:
/// machine: made, adopted or killed by this actor; push/pull: from the memory actor's messages; numbers: from the streams' snapshots.
/// </summary>
internal sealed class VmState
{
    internal IMachine? Machine { get; set; }

    internal VmRunState RunState { get; set; } = VmRunState.Exited;

    internal VmWork Work { get; set; } = new VmWork.None();

    /// <summary>Set while the rounds go on after they converged.</summary>
    internal Converged? Converged { get; set; }

    /// <summary>Set once the incoming device state is loaded.</summary>
    internal HandOverKind? ReadyFor { get; set; }

    /// <summary>The link to the source is down while pages are missing.</summary>
    internal bool PullBroken { get; set; }

    /// <summary>The outgoing pull for which nothing can be done here now: the destination is not there, or has given the VM up.</summary>
    internal MigrationId? Stalled { get; set; }

    internal MigrationStats OutgoingStats { get; set; } = new();

    internal MigrationStats IncomingStats { get; set; } = new();

    internal FabricError? LastError { get; set; }

    /// <summary>The guest is being told that its memory is its own again, or will be shortly.</summary>
    internal bool GivingBack { get; set; }

    /// <summary>What the VM's own balloon loop was told last; null where it has none, or no machine.</summary>
    internal Direct? BalloonDirected { get; set; }

    internal string? Note { get; set; }
}
