using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Vm;

/// <summary>
/// What a restarted agent does with what it finds: one row per ledger state, as in docs/PROTOCOL.md ("Every crash point").
/// </summary>
internal sealed partial class VmActor
{
    private static readonly TimeSpan AdoptionRetry = TimeSpan.FromSeconds(1);
    private static readonly FabricError Restarted = new(ErrorCodes.Lost, "The agent was restarted.");

    private async ValueTask RecoverAsync()
    {
        IMachine? machine;
        try
        {
            machine = Recorded is { Machine: { } adoption, Spec: { } spec } ? await parts.Factory(spec.Machine).AdoptAsync(adoption, Context.Stopping) : null;
            if (_unrecovered is not null)
                (_unrecovered, _live.Note, _live.RunState) = (null, null, VmRunState.Exited);
        }
        catch (FabricException e)
        {
            _unrecovered = e.Error;
            // It is there and stands or runs as it did: "exited" would make others give the VM up.
            _live.RunState = VmRunState.Paused;
            _live.Note = $"Its machine is not adopted yet: {e.Error.Message}";
            _logger.LogWarning("The machine of VM {Vm} cannot be adopted yet: {Error}", name, e.Error);
            Context.TellAfter(AdoptionRetry, new RecoverAgain());
            return;
        }

        if (machine is not null)
        {
            Hold(machine);
            _live.RunState = VmRunState.Paused;
        }

        // The old agent may have died between the last record and the removal; nothing reads the map of a pull that has ended.
        if (Recorded.Incoming is { Ended: true } ended)
            parts.RemovePullMap(ended.Migration);

        if (Recorded.Outgoing is { Ended: false } outgoing)
            await RecoverOutgoingAsync(outgoing, machine);
        else if (Recorded.Incoming is { Ended: false } incoming)
            await RecoverIncomingAsync(incoming, machine);
        else if (Recorded.Owner)
            await RecoverOwnerAsync(machine);
        else if (Recorded.Machine is not null)
            await RemoveLeftoverAsync();
        GiveBackWhatIsLent();
    }

    /// <summary>No right to run is here and nothing is expected: the old agent died while it took the machine down.</summary>
    private async ValueTask RemoveLeftoverAsync()
    {
        await DropMachineAsync();
        Ledger.Append(new VmRecord.MachineGone("It was left over when the agent started."));
    }

    private async ValueTask RecoverOwnerAsync(IMachine? machine)
    {
        if (machine is null)
        {
            if (Recorded.Machine is not null)
                Ledger.Append(new VmRecord.MachineGone("Its process was gone when the agent started."));
            _live.Note = "Its process was gone when the agent started.";
            return;
        }

        // Writes that an earlier agent had recorded nobody asks for any more; the guest pays for them.
        machine.Memory.StopDirtyTracking();
        if (await StatusAsync(machine) == MachineStatus.Running)
            _live.RunState = VmRunState.Running;
        else
            await ContinueOwnedAsync(0);
    }

    private async ValueTask RecoverOutgoingAsync(OutgoingEntry outgoing, IMachine? machine)
    {
        switch (outgoing.Phase)
        {
            case SourcePhase.Pushing:
                Ledger.Append(new VmRecord.PushEnded(outgoing.Migration, Restarted));
                await RecoverOwnerAsync(machine);
                break;
            case SourcePhase.HandingOver:
                // token-sent precedes the token, and is not there: it cannot have left.
                Ledger.Append(new VmRecord.Withdrawn(outgoing.Migration, Restarted));
                await RecoverOwnerAsync(machine);
                break;
            case SourcePhase.TokenSent:
                _live.LastError = new FabricError(ErrorCodes.Lost, "The agent was restarted after the token may have left.");
                break;
            case SourcePhase.HandedOver when machine is not null:
                _memory.TryTell(new ResumeServing(Route(outgoing, resume: true), machine.Memory));
                break;
            case SourcePhase.HandedOver:
                _live.LastError = new FabricError(ErrorCodes.Lost, "The machine that holds the missing pages is gone.");
                _logger.LogCritical("VM {Vm}: the pages that migration {Migration} still needs are gone with the source's machine.", name, outgoing.Migration);
                break;
        }
    }

    private async ValueTask RecoverIncomingAsync(IncomingEntry incoming, IMachine? machine)
    {
        if (incoming.Step == IncomingStep.Expected)
        {
            // The connection that could carry the token died with the old process: it will never be accepted.
            await RefuseAsync(incoming.Migration, incoming.Epoch, "The agent was restarted before the token came.");
            return;
        }

        if (machine is null)
        {
            Ledger.Append(new VmRecord.IncomingLost(incoming.Migration, "Its process was gone when the agent started, before all of its memory was here."));
            parts.RemovePullMap(incoming.Migration);
            return;
        }

        if (incoming.Kind == HandOverKind.Pull)
        {
            _live.PullBroken = true;
            await OpenDoorAsync(machine);
            // The machine may be waiting for a page in the middle of anything, so it is not asked: the ledger says that it may run,
            // and continuing it is tried beside until it answers.
            _live.RunState = VmRunState.Running;
            Context.TellAfter(TimeSpan.FromMilliseconds(1), new ContinueAgain(0));
            return;
        }

        Ledger.Append(new VmRecord.PullCompleted(incoming.Migration, null));
        parts.RemovePullMap(incoming.Migration);
        await RecoverOwnerAsync(machine);
    }

    private async ValueTask<MachineStatus> StatusAsync(IMachine machine)
    {
        try
        {
            return await machine.QueryStatusAsync(Context.Stopping);
        }
        catch (FabricException e)
        {
            _logger.LogWarning("The machine of VM {Vm} does not say what it does: {Error}", name, e.Error);
            return MachineStatus.Paused;
        }
    }
}
