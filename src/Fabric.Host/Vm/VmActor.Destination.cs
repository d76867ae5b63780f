using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Disk;
using Fabric.Host.Ledger;
using Fabric.Host.Link;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Vm;

/// <summary>The destination's half: prepare, refuse, accept the token, pull.</summary>
internal sealed partial class VmActor
{
    private async ValueTask OnPrepareIncomingAsync(PrepareIncoming c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        var migration = RequireMigration(c);
        if (c.Spec.Validate() is { } invalidSpec)
            throw new FabricException(invalidSpec);
        if (c.Options.Validate() is { } invalidOptions)
            throw new FabricException(invalidOptions);
        if (Recorded.RefusalOf(migration) is { } refusal)
            throw new FabricException(ErrorCodes.RefusedBySafety, $"Host {parts.Host} has refused migration {migration} for good: {refusal.Why}");
        if (Recorded.Owner)
            throw new FabricException(ErrorCodes.AlreadyExists, $"VM '{name}' already runs on host {parts.Host}.");
        parts.Admission.EnterIncoming(c.Spec, c.Source, c.Limits);
        await _disk.AskAsync<DiskMessage, bool>(answer => new CheckIncoming(c.Spec, answer), MachineDeadline, Context.Time, Context.Stopping);
        // The record first: a crash while the machine is being made then ends in a durable refusal, not in an orphan.
        Ledger.Append(new VmRecord.IncomingExpected(migration, c.Header.RunEpoch, c.Spec, c.Source, c.Ticket, c.Options));
        _live.ReadyFor = null;
        _live.PullBroken = false;
        _live.LastError = null;
        _live.IncomingStats = new MigrationStats { TotalBytes = c.Spec.MemoryBytes };
        Make(c, c.Spec, MachineBirth.Incoming, reply);
    }

    private async ValueTask<FabricError?> FinishPrepareAsync(PrepareIncoming c, IMachine? machine, FabricError? error)
    {
        if (machine is null)
        {
            var why = error ?? new FabricError(ErrorCodes.MachineFailed, "The machine could not be made.");
            Ledger.Append(new VmRecord.Refused(c.Header.Migration!.Value, c.Header.RunEpoch, why.Message), new VmRecord.Answered(c.Header.Id, why));
            return why;
        }

        Ledger.Append(new VmRecord.MachineStarted(machine.AdoptionRecord));
        await OpenDoorAsync(machine);
        Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        return null;
    }

    private async ValueTask OpenDoorAsync(IMachine machine)
    {
        var entry = Recorded.Incoming!;
        var route = new IncomingRoute(entry.Migration, entry.Ticket!, entry.Options.Verify, Recorded.Spec!.PageCount, parts.PullMap(entry.Migration));
        await _memory.AskAsync<MemoryMessage, bool>(answer => new ExpectIncoming(route, machine, answer), MachineDeadline, Context.Time, Context.Stopping);
    }

    private async ValueTask OnRefuseIncomingAsync(RefuseIncoming c, IReply<CommandResult> reply)
    {
        var migration = RequireMigration(c);
        bool ours = Recorded.Incoming?.Migration == migration;
        if (ours && Recorded.Incoming!.Step is IncomingStep.Accepted or IncomingStep.Complete or IncomingStep.Lost)
        {
            throw new FabricException(
                ErrorCodes.RefusedBySafety, $"Host {parts.Host} has accepted the run token of VM '{name}' at epoch {Recorded.Incoming.Epoch}; it cannot be refused any more.");
        }

        if (ours && _live.Work is VmWork.Making)
            throw new FabricException(ErrorCodes.Conflict, $"The incoming machine of VM '{name}' is still being made.", "Ask again.");
        if (Recorded.RefusalOf(migration) is null)
            await RefuseAsync(migration, c.Header.RunEpoch, Label.Shorten(c.Why));
        Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        Done(c, reply);
    }

    /// <summary>The statement is durable before anything is taken down: from here on the token would be turned away.</summary>
    private async ValueTask RefuseAsync(MigrationId migration, Epoch epoch, string why)
    {
        bool ours = Recorded.Incoming?.Migration == migration;
        Ledger.Append(new VmRecord.Refused(migration, epoch, why));
        if (!ours)
            return;
        _live.ReadyFor = null;
        _memory.TryTell(new EndIncoming());
        await DropMachineAsync();
        Ledger.Append(new VmRecord.MachineGone(why));
        parts.RemovePullMap(migration);
    }

    private void OnIncomingReady(IncomingReady m)
    {
        if (Recorded.Incoming is { Step: IncomingStep.Expected } incoming && incoming.Migration == m.Migration)
            _live.ReadyFor = m.Kind;
    }

    private async ValueTask OnTokenArrivedAsync(TokenArrived m)
    {
        var incoming = Recorded.Incoming;
        if (incoming is not { Step: IncomingStep.Expected } || incoming.Migration != m.Migration || incoming.Epoch != m.Epoch || _live.ReadyFor is not { } kind || _live.Machine is null)
        {
            string why = $"The token of migration {m.Migration} at epoch {m.Epoch} is not expected here (expected {incoming?.Migration} at {incoming?.Epoch}, {incoming?.Step}).";
            if (incoming is { Step: IncomingStep.Expected } && incoming.Migration == m.Migration)
                await RefuseAsync(m.Migration, incoming.Epoch, why);
            m.Reply.Fail(new FabricError(ErrorCodes.RefusedByEpoch, why));
            return;
        }

        try
        {
            if (kind == HandOverKind.Complete)
                Ledger.Append(new VmRecord.Accepted(m.Migration, m.Epoch, kind), new VmRecord.PullCompleted(m.Migration, incoming.Options.Verify == VerifyLevel.None ? null : true));
            else
                Ledger.Append(new VmRecord.Accepted(m.Migration, m.Epoch, kind));
        }
        catch (FabricException e)
        {
            // Whether the record is on disk is unknown, so neither running nor refusing would be true: say nothing, let the supervisor ask
            // after this agent was restarted and has read its ledger again.
            _damaged = e.Error;
            _logger.LogCritical("VM {Vm}: the token arrived and could not be recorded: {Error}", name, e.Error);
            return;
        }

        await ContinueOwnedAsync(0);
        m.Reply.Succeed(true);
    }

    private void OnPullArrived(PullArrived m)
    {
        try
        {
            if (Recorded.Incoming is not { Step: IncomingStep.Complete } complete || complete.Migration != m.Migration)
            {
                // Not compared against digests, when it ended without its source; but every frame was checked as it came.
                bool? verified = m.Verified ?? (Recorded.Incoming?.Options.Verify == VerifyLevel.Frames ? true : null);
                Ledger.Append(new VmRecord.PullCompleted(m.Migration, verified));
            }

            _live.PullBroken = false;
            m.Reply.Succeed(true);
        }
        catch (Exception e) when (e is FabricException or LedgerContradictionException)
        {
            m.Reply.Fail(new FabricError(ErrorCodes.StoreFailed, e.Message));
        }
    }

    private async ValueTask OnIncomingEndedAsync(IncomingEnded m)
    {
        if (Recorded.Incoming is not { } incoming || incoming.Migration != m.Migration)
            return;
        switch (incoming.Step)
        {
            case IncomingStep.Expected when m.Error is { } error:
                await RefuseAsync(m.Migration, incoming.Epoch, $"The source's stream ended before the token came: {error.Message}");
                break;
            case IncomingStep.Accepted when m.Error is { } error:
                _live.PullBroken = true;
                _live.LastError = error;
                break;
            case IncomingStep.Complete:
                // Also when the stream broke on its last word: nothing is to come any more. A source that did not hear it is released by the supervisor.
                _memory.TryTell(new EndIncoming());
                parts.RemovePullMap(m.Migration);
                break;
        }
    }

    private void OnPullResumed(PullResumed m)
    {
        if (Recorded.Incoming?.Migration == m.Migration)
        {
            _live.PullBroken = false;
            _live.LastError = null;
        }
    }

    private void OnMachineExited(MachineExited m)
    {
        if (!ReferenceEquals(m.Machine, _live.Machine))
            return;
        _logger.LogWarning("The machine of VM {Vm} has ended: {How}", name, m.How);
        _live.Machine = null;
        _live.RunState = VmRunState.Exited;
        _live.Note = m.How;
        _balloon.TryTell(new Balloon.MachineDetached());
        switch (Recorded)
        {
            case { Incoming: { Step: IncomingStep.Expected } incoming }:
                _memory.TryTell(new EndIncoming());
                Ledger.Append(new VmRecord.Refused(incoming.Migration, incoming.Epoch, $"The incoming machine ended: {m.How}"));
                parts.RemovePullMap(incoming.Migration);
                break;
            case { Incoming: { Step: IncomingStep.Accepted } incoming }:
                _memory.TryTell(new EndIncoming());
                Ledger.Append(new VmRecord.IncomingLost(incoming.Migration, $"The machine ended before all of its memory was here: {m.How}"));
                parts.RemovePullMap(incoming.Migration);
                break;
            case { Owner: true, Outgoing: { Phase: SourcePhase.Pushing } outgoing }:
                _memory.TryTell(new EndOutgoing());
                Ledger.Append(new VmRecord.PushEnded(outgoing.Migration, new FabricError(ErrorCodes.MachineFailed, $"The machine ended: {m.How}")), new VmRecord.MachineGone(m.How));
                break;
            case { Owner: true }:
                Ledger.Append(new VmRecord.MachineGone(m.How));
                break;
        }

        _ = EndAsync(m.Machine, CancellationToken.None);
    }
}
