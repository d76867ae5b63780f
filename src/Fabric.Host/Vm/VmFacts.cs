using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Vm;

/// <summary>What a VM's actor says is true: the ledger's word, with what only the living process knows.</summary>
internal static class VmFacts
{
    /// <summary>Null when there is nothing to say: the VM is not and was not here.</summary>
    internal static VmFact? From(VmName name, FabricError? damaged, VmLedgerState? ledger, VmState live)
    {
        if (damaged is not null)
        {
            // A machine that is held here takes its memory whatever became of the ledger.
            return live.Machine is not null && ledger?.Spec is { } held
                ? new VmFact(held, Epoch.None, Owner: false, VmRunState.Paused, live.Machine.ProcessId, null, null, damaged.ToString())
                : new VmFact(new VmSpec { Name = name, MemoryBytes = ByteSize.Mebi }, Epoch.None, Owner: false, VmRunState.Exited, null, null, null, damaged.ToString());
        }

        var spec = ledger?.Spec ?? (live.Work as VmWork.Making)?.Command switch
        {
            CreateVm c => c.Spec,
            PrepareIncoming c => c.Spec,
            _ => null,
        };
        if (ledger is null || spec is null)
            return null;
        return new VmFact(spec, ledger.RunEpoch, ledger.Owner, live.RunState, live.Machine?.ProcessId, Outgoing(ledger, live), Incoming(ledger, live), live.Note);
    }

    private static SourceFact? Outgoing(VmLedgerState ledger, VmState live)
    {
        if (ledger.Outgoing is not { } entry)
            return null;
        var phase = entry.Phase == SourcePhase.Pushing && live.Converged is not null ? SourcePhase.Converged : entry.Phase;
        var mode = entry.Mode ?? live.Converged?.Mode ?? entry.Options.Mode;
        return new SourceFact(entry.Migration, phase, entry.HandOverEpoch, mode, live.OutgoingStats, entry.Error ?? live.LastError, live.Converged?.Why);
    }

    private static DestinationFact? Incoming(VmLedgerState ledger, VmState live)
    {
        if (ledger.Incoming is not { } entry)
            return null;
        var phase = entry.Step switch
        {
            IncomingStep.Expected when live.ReadyFor is not null => DestinationPhase.Ready,
            IncomingStep.Expected when live.Machine is not null => DestinationPhase.Prepared,
            IncomingStep.Expected => DestinationPhase.Preparing,
            IncomingStep.Accepted when live.RunState != VmRunState.Running => DestinationPhase.TokenAccepted,
            IncomingStep.Accepted when live.PullBroken => DestinationPhase.PullBroken,
            IncomingStep.Accepted => entry.Kind == HandOverKind.Pull ? DestinationPhase.Pulling : DestinationPhase.TokenAccepted,
            IncomingStep.Complete => DestinationPhase.Complete,
            IncomingStep.Refused => DestinationPhase.Refused,
            _ => DestinationPhase.Lost,
        };
        var stats = live.IncomingStats with { Verified = entry.Verified ?? live.IncomingStats.Verified };
        var error = entry.Why is { } why ? new FabricError(entry.Step == IncomingStep.Lost ? ErrorCodes.Lost : ErrorCodes.RefusedBySafety, why) : live.LastError;
        return new DestinationFact(entry.Migration, phase, entry.Epoch, stats, error);
    }
}
