// Repair: ask every host what is true, and make the journal say it if the rules allow that. The journal is written only in the turn in which the hosts' words are judged, and only if
// this ledger has not changed since they were asked.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Vms;

internal sealed partial class VmLedger
{
    /// <summary>For each host's answer.</summary>
    private static readonly TimeSpan AskHostWithin = TimeSpan.FromSeconds(5);

    /// <summary>For the end of a migration that stands in the way.</summary>
    private static readonly TimeSpan GiveUpWithin = TimeSpan.FromSeconds(30);

    private RepairUnderWay? _repair;

    private void Repair(RepairAsked asked)
    {
        if (_repair is not null)
        {
            asked.Reply.Fail(new FabricError(ErrorCodes.Conflict, $"VM '{name}' is being repaired already.", "Wait for the answer."));
            return;
        }

        _repair = new RepairUnderWay(asked.Reason, asked.Reply, _state, null, []);
        AskHosts();
    }

    /// <summary>Every host that is registered here, and those that the journal names for this VM: one of them that is not registered is one that does not answer.</summary>
    private void AskHosts()
    {
        var hosts = services.Hosts.All.Select(static h => h.Registration.Name)
            .Concat(new[] { _state.Owner, _state.Active?.Source, _state.Active?.Destination }.OfType<HostName>())
            .Distinct()
            .OrderBy(static h => h.Value, StringComparer.Ordinal)
            .ToList();
        Context.PipeToSelf(
            async cancellation => await Task.WhenAll(hosts.Select(host => AskHostAsync(host, cancellation))),
            words => (VmMessage)new RepairHeard(words, null),
            error => new RepairHeard([], error));
    }

    private async Task<HostWord> AskHostAsync(HostName host, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(AskHostWithin, services.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        try
        {
            var facts = await services.Agents.FactsAsync(host, 0, TimeSpan.Zero, either.Token);
            return new HostWord(host, facts.Vms.FirstOrDefault(vm => vm.Name == name), null);
        }
        catch (FabricException silent)
        {
            return new HostWord(host, null, silent.Error);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return new HostWord(host, null, new FabricError(ErrorCodes.DeadlineExceeded, $"Host '{host}' gave no answer within {AskHostWithin.TotalSeconds:0} s."));
        }
    }

    private async ValueTask JudgeAsync(RepairHeard heard)
    {
        if (_repair is not { } repair)
            return;
        repair = _repair = repair with { Words = heard.Words };
        if (heard.Error is { } error)
        {
            RefuseRepair(error);
            return;
        }

        if (!ReferenceEquals(_state, repair.Seen))
        {
            RefuseRepair(new FabricError(ErrorCodes.Conflict, $"VM '{name}' changed while its hosts were asked.", "Try again."));
            return;
        }

        var active = _state.Active is { } plan ? services.Board.Migration(plan.Id) ?? new Planned(plan, plan.PlannedAt) : null;
        var (refusal, adoption) = RepairRules.Judge(_state, active, heard.Words, services.Now, repair.Reason);
        if (refusal is not null)
        {
            RefuseRepair(refusal);
        }
        else if (adoption is null)
        {
            FinishRepair("agrees", null);
        }
        else if (_state.Active is { } inTheWay)
        {
            GiveUp(inTheWay, repair.Reason);
        }
        else
        {
            await AppendAsync(adoption);
            FinishRepair("adopted", null);
        }
    }

    /// <summary>As an operator's abort: what was begun is undone and the ledger settles it; then the hosts are asked again.</summary>
    private void GiveUp(MigrationPlan plan, string reason)
    {
        if (_repair!.Ended is not null || _supervisor is not { } supervisor)
        {
            RefuseRepair(new FabricError(ErrorCodes.Conflict, $"Migration {plan.Id} began while the VM was repaired.", "Try again."));
            return;
        }

        _repair = _repair with { Ended = plan.Id };
        Context.PipeToSelf(
            cancellation => supervisor.AskAsync<MigrationMessage, KnownState>(reply => new GiveUp(reason, reply), GiveUpWithin, services.Time, cancellation),
            static _ => (VmMessage)VmResume.Instance,
            error => new RepairBlocked(plan.Id, error));
        Context.TellAfter(GiveUpWithin, new RepairBlocked(plan.Id, new FabricError(
            ErrorCodes.DeadlineExceeded, $"Migration {plan.Id} was asked to give up and is not over after {GiveUpWithin.TotalSeconds:0} s.", "Repair again when it is: fabric migration show " + plan.Id)));
    }

    private void Blocked(RepairBlocked blocked)
    {
        if (_repair?.Ended == blocked.Migration && _state.Active?.Id == blocked.Migration)
            RefuseRepair(blocked.Error);
    }

    /// <summary>Called when a migration was settled: it may be the one that stood in the way.</summary>
    private void RepairAfter(MigrationId settled)
    {
        if (_repair is not { } repair || repair.Ended != settled)
            return;
        _repair = repair with { Seen = _state };
        AskHosts();
    }

    private void RefuseRepair(FabricError why) => FinishRepair("refused", new ErrorBodyShort(why.Code, why.Hint is null ? why.Message : $"{why.Message} {why.Hint}"));

    private void FinishRepair(string outcome, ErrorBodyShort? error)
    {
        var repair = _repair!;
        _repair = null;
        bool known = _state.Status is VmStatus.Present or VmStatus.Lost;
        repair.Reply.Succeed(new RepairReport(
            name, outcome, error, known ? _state.Owner : null, known ? _state.Epoch : null, repair.Ended, [.. repair.Words.Select(static w => w.Report())]));
    }

    /// <summary>One at a time. <paramref name="Seen"/>: this ledger when the hosts were asked. <paramref name="Ended"/>: the migration that was told to give up.</summary>
    private sealed record RepairUnderWay(string Reason, IReply<RepairReport> Reply, VmState Seen, MigrationId? Ended, IReadOnlyList<HostWord> Words);
}
