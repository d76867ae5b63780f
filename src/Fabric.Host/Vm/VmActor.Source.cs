using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Disk;
using Fabric.Host.Ledger;
using Fabric.Host.Link;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Vm;

/// <summary>The source's half: push, hand-over, withdraw, take back, serve the pull, release.</summary>
internal sealed partial class VmActor
{
    /// <summary>Longest stop before the token has left; a full comparison of memory gets more by its size.</summary>
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(5);

    /// <summary>Slowest digest of memory that is waited for, bytes a second.</summary>
    private const double SlowestDigest = 200e6;

    private async ValueTask OnStartPushAsync(StartPush c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        var migration = RequireMigration(c);
        if (!Recorded.Owner || _live.Machine is null || _live.RunState != VmRunState.Running)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{name}' does not run on host {parts.Host}.");
        if (c.Header.RunEpoch < Recorded.RunEpoch)
            throw new FabricException(ErrorCodes.RefusedByEpoch, $"The command is about run epoch {c.Header.RunEpoch}; VM '{name}' runs at {Recorded.RunEpoch}.");
        if (c.Options.Validate() is { } invalid)
            throw new FabricException(invalid);
        parts.Admission.EnterOutgoing(name, c.Destination, c.Limits);
        await _disk.AskAsync<DiskMessage, bool>(answer => new CheckOutgoing(Recorded.Spec!, answer), MachineDeadline, Context.Time, Context.Stopping);
        // What an earlier migration took and nobody has given back yet stays owed.
        bool takes = Recorded.Outgoing?.Lent is null && await MayTakeAsync(c.Options, _live.Machine);
        long? lent = Recorded.Outgoing?.Lent ?? (takes && Recorded.Spec!.Balloon is null ? Recorded.Spec!.MemoryBytes : null);
        Ledger.Append(new VmRecord.PushStarted(migration, c.Destination, c.Endpoint, c.Ticket, c.Options, lent), new VmRecord.Answered(c.Header.Id, null));
        _live.Converged = null;
        _live.LastError = null;
        _live.OutgoingStats = new MigrationStats { TotalBytes = Recorded.Spec!.MemoryBytes, RemainingBytes = Recorded.Spec!.MemoryBytes };
        if (takes)
            TakeMemory(migration, _live.Machine);
        else
            BeginToPush(_live.Machine);
        Done(c, reply);
    }

    private void OnPushConverged(PushConverged m)
    {
        if (Recorded.Outgoing is { Phase: SourcePhase.Pushing } outgoing && outgoing.Migration == m.Migration)
            _live.Converged = new Converged(m.Mode, m.Why);
    }

    private void OnPushBroke(PushBroke m)
    {
        if (Recorded.Outgoing is { Phase: SourcePhase.Pushing } outgoing && outgoing.Migration == m.Migration)
            EndPush(m.Migration, m.Error);
    }

    private void OnProgress(Progress m)
    {
        if (Recorded.Outgoing is { Ended: false } outgoing && outgoing.Migration == m.Migration)
            _live.OutgoingStats = m.Stats with { DowntimeMs = _live.OutgoingStats.DowntimeMs };
        if (Recorded.Incoming?.Migration == m.Migration)
            _live.IncomingStats = m.Stats;
    }

    private void OnCancelOutgoing(CancelOutgoing c, IReply<CommandResult> reply)
    {
        var migration = RequireMigration(c);
        var outgoing = Recorded.Outgoing;
        var why = new FabricError(ErrorCodes.Cancelled, Label.Shorten(c.Why));
        if (outgoing is null || outgoing.Migration != migration || outgoing.Ended)
        {
            // Nothing of it is here (any more): the VM's right to run is where it was.
            Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        }
        else if (outgoing.Phase == SourcePhase.Pushing)
        {
            EndPush(migration, why);
            Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        }
        else if (outgoing.Phase == SourcePhase.HandingOver && _live.Work is VmWork.HandingOver work)
        {
            // The operation asks this actor before the token leaves; from this cancellation on it will be refused, and withdraws.
            work.Cancel.Cancel();
            Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        }
        else
        {
            throw new FabricException(
                ErrorCodes.RefusedBySafety, $"The run token of VM '{name}' may already have left host {parts.Host} ({outgoing.Phase}); there is no way back except recovery.");
        }

        Done(c, reply);
    }

    private void EndPush(MigrationId migration, FabricError why)
    {
        _memory.TryTell(new EndOutgoing());
        _live.Converged = null;
        Ledger.Append(new VmRecord.PushEnded(migration, why));
        GiveBackWhatIsLent();
    }

    private void OnHandOver(HandOver c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        var migration = RequireMigration(c);
        if (_live.Machine is not { } machine || _live.Converged is null || Recorded.Outgoing?.Migration != migration)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{name}' is not ready to be handed over ({Recorded.Outgoing?.Phase.ToString() ?? "no push"}).");
        var kind = c.Mode == MigrationMode.PreCopy ? HandOverKind.Complete : HandOverKind.Pull;
        var done = c.Mode == MigrationMode.PreCopy ? MigrationMode.PreCopy : _live.Converged.Mode == MigrationMode.PostCopy ? MigrationMode.PostCopy : MigrationMode.Hybrid;
        Ledger.Append(new VmRecord.HandingOver(migration, c.Header.RunEpoch, done), new VmRecord.Answered(c.Header.Id, null));
        var cancel = new CancellationTokenSource();
        _live.Work = new VmWork.HandingOver(migration, c.Header.RunEpoch, cancel);
        var limit = StopLimit;
        if (Recorded.Outgoing!.Options.Verify == VerifyLevel.Full)
            limit += TimeSpan.FromSeconds(Recorded.Spec!.MemoryBytes / SlowestDigest);
        var operation = new HandOverOperation(machine, Recorded.Outgoing!.Lent, Context.Self, _memory, _balloon, Context.Time, _logger);
        Context.PipeToSelf<VmMessage>(
            async _ => new HandOverEnded(migration, c.Header.RunEpoch, kind, await operation.RunAsync(migration, c.Header.RunEpoch, kind, limit, cancel.Token)),
            static ended => ended,
            error => new HandOverEnded(migration, c.Header.RunEpoch, kind, new HandOverOutcome.Unknown(error)));
        Done(c, reply);
    }

    private void OnRecordTokenSent(RecordTokenSent m)
    {
        if (_live.Work is not VmWork.HandingOver work || work.Migration != m.Migration || work.Cancel.IsCancellationRequested)
        {
            m.Reply.Fail(new FabricError(ErrorCodes.Cancelled, "The hand-over was called off."));
            return;
        }

        try
        {
            Ledger.Append(new VmRecord.TokenSent(m.Migration, m.Epoch));
            m.Reply.Succeed(true);
        }
        catch (FabricException e)
        {
            m.Reply.Fail(e.Error);
        }
    }

    private async ValueTask OnHandOverEndedAsync(HandOverEnded m)
    {
        (_live.Work as VmWork.HandingOver)?.Cancel.Dispose();
        _live.Work = new VmWork.None();
        _live.Converged = null;
        switch (m.Outcome)
        {
            case HandOverOutcome.NotSent o:
                parts.VmMetrics.HandedOver("withdrawn", null);
                await WithdrawAsync(m.Migration, o.Error);
                break;
            case HandOverOutcome.Unknown o:
                parts.VmMetrics.HandedOver("unknown", null);
                _logger.LogError("VM {Vm}: what became of the run token of migration {Migration} is unknown ({Error}); the VM stands here until the supervisor knows.", name, m.Migration, o.Error);
                _live.LastError = o.Error;
                _live.RunState = VmRunState.Paused;
                _memory.TryTell(new EndOutgoing());
                break;
            case HandOverOutcome.Passed o:
                parts.VmMetrics.HandedOver("passed", o.Downtime);
                OnPassed(m, o);
                break;
        }
    }

    private void OnPassed(HandOverEnded m, HandOverOutcome.Passed outcome)
    {
        _live.OutgoingStats = _live.OutgoingStats with { DowntimeMs = outcome.Downtime.TotalMilliseconds };
        _live.RunState = VmRunState.Paused;
        if (m.Kind == HandOverKind.Pull)
        {
            Ledger.Append(new VmRecord.HandedOver(m.Migration, m.Epoch));
            _memory.TryTell(new ServePulling());
            return;
        }

        Ledger.Append(new VmRecord.HandedOver(m.Migration, m.Epoch), new VmRecord.Drained(m.Migration));
        _memory.TryTell(new ReportProgress());
        _memory.TryTell(new EndOutgoing());
    }

    /// <summary>The token reached no socket: the record first, then the disks, then the vCPUs.</summary>
    private async ValueTask WithdrawAsync(MigrationId migration, FabricError why)
    {
        _memory.TryTell(new EndOutgoing());
        Ledger.Append(new VmRecord.Withdrawn(migration, why));
        _logger.LogWarning("VM {Vm}: the hand-over of migration {Migration} was withdrawn: {Error}", name, migration, why);
        await ContinueOwnedAsync(0);
        GiveBackWhatIsLent();
    }

    /// <summary>Lets the VM run here; the ledger must already say that it may. A machine that does not answer is tried again.</summary>
    private async ValueTask ContinueOwnedAsync(int attempt)
    {
        if (!Recorded.Owner || _live.Machine is not { } machine)
            return;
        try
        {
            if (Recorded.Incoming is not { Step: IncomingStep.Accepted or IncomingStep.Complete })
                await machine.ReclaimDisksAsync(Context.Stopping);
            await machine.ContinueAsync(Context.Stopping);
            _live.RunState = VmRunState.Running;
            _live.LastError = null;
            Announce(machine);
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException)
        {
            _live.RunState = VmRunState.Paused;
            _live.LastError = MemoryActor.Describe(e);
            _logger.LogError("VM {Vm} may run here but did not continue: {Error}", name, _live.LastError);
            if (attempt < parts.Options.ContinueAttempts)
                Context.TellAfter(TimeSpan.FromMilliseconds(100 * Math.Min(attempt + 1, 20)), new ContinueAgain(attempt + 1));
        }
    }

    /// <summary>Beside the VM, which runs already: nobody waits for it, and a network that hears nothing learns from the guest's own frames.</summary>
    private void Announce(IMachine machine)
    {
        if (machine.Spec.Nics.Count == 0)
            return;
        Context.PipeToSelf<VmMessage>(
            async stopping =>
            {
                await machine.AnnounceAsync(stopping);
                return new Announced(null);
            },
            static announced => announced,
            static error => new Announced(error));
    }

    private void OnAnnounced(Announced m)
    {
        if (m.Error is { } error)
            _logger.LogWarning("VM {Vm} runs here, but the network was not told so and may send its frames elsewhere until it speaks: {Error}", name, error);
    }

    private async ValueTask OnTakeBackAsync(TakeBack c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        var migration = RequireMigration(c);
        if (Recorded.Owner)
        {
            // It never gave the VM away, or has taken it back already. A push that still stands has nowhere to go: left open, it would keep the VM
            // from being moved or deleted ever again.
            if (Recorded.Outgoing is { Phase: SourcePhase.Pushing } standing && standing.Migration == migration)
                EndPush(migration, new FabricError(ErrorCodes.Cancelled, "The destination refused before the hand-over began."));
            Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
            Done(c, reply);
            return;
        }

        if (_live.Machine is null)
            throw new FabricException(ErrorCodes.Lost, $"The machine of VM '{name}' on host {parts.Host} is gone.");
        if (Recorded.Outgoing is not { } outgoing || outgoing.Migration != migration || outgoing.HandOverEpoch != c.RefusedEpoch)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{name}': migration {migration} at epoch {c.RefusedEpoch} was not handed over from host {parts.Host}.");
        Ledger.Append(new VmRecord.TakenBack(migration, c.Header.RunEpoch), new VmRecord.Answered(c.Header.Id, null));
        await ContinueOwnedAsync(0);
        GiveBackWhatIsLent();
        Done(c, reply);
    }

    private void OnServePull(ServePull c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        var migration = RequireMigration(c);
        // `lost` is a definite word: a pull that waits for these pages ends with it.
        if (Recorded.Outgoing is not { Phase: SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained } outgoing || outgoing.Migration != migration || _live.Machine is not { } machine)
            throw new FabricException(ErrorCodes.Lost, $"VM '{name}': host {parts.Host} has nothing to serve for migration {migration} ({Recorded.Outgoing?.Phase.ToString() ?? "nothing"}, {(_live.Machine is null ? "no machine" : "a machine")}).");
        if (outgoing.Phase == SourcePhase.TokenSent)
        {
            // The supervisor has the destination's word that it accepted: that is what this command says.
            Ledger.Append(new VmRecord.HandedOver(migration, outgoing.HandOverEpoch));
        }

        Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        _memory.TryTell(new ResumeServing(Route(outgoing with { Endpoint = c.Endpoint, Ticket = c.Ticket }, resume: true), machine.Memory));
        Done(c, reply);
    }

    private void OnPullServed(PullServed m)
    {
        if (Recorded.Outgoing is { Phase: SourcePhase.HandedOver } outgoing && outgoing.Migration == m.Migration)
            Ledger.Append(new VmRecord.Drained(m.Migration));
    }

    private async ValueTask OnReleaseSourceAsync(ReleaseSource c, IReply<CommandResult> reply)
    {
        RefuseWhenBusy();
        var migration = RequireMigration(c);
        if (Recorded.Outgoing is { Phase: SourcePhase.Released } released && released.Migration == migration)
        {
            Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
            Done(c, reply);
            return;
        }

        if (Recorded.Outgoing is not { Phase: SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained } outgoing || outgoing.Migration != migration)
            throw new FabricException(ErrorCodes.RefusedBySafety, $"VM '{name}' was not handed over from host {parts.Host} by migration {migration}; it is not ended.");
        _memory.TryTell(new EndOutgoing());
        await DropMachineAsync();
        Ledger.Append(new VmRecord.Released(migration), new VmRecord.Answered(c.Header.Id, null));
        Done(c, reply);
    }

    private OutgoingRoute Route(OutgoingEntry entry, bool resume)
    {
        var spec = Recorded.Spec!;
        var terms = new TransferTerms(entry.Migration, VmSpec.PageSize, spec.PageCount, entry.Options.BulkConnections, entry.Options.Verify, entry.Options.Compress != Compression.Off);
        return new OutgoingRoute(entry.Destination, entry.Endpoint, entry.Ticket, terms, entry.Options.BandwidthBytesPerSecond, resume, new PullPlan(entry.Options.Order, entry.Options.Pivots));
    }

    private static MigrationId RequireMigration(AgentCommand command) => command.Header.Migration
        ?? throw new FabricException(ErrorCodes.InvalidArgument, $"The command {command.GetType().Name} names no migration.");
}
