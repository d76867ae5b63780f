// What may follow from what all hosts say of a VM. Pure. Agents are never told anything by a repair: it makes the journal say what is true already, or leaves everything as it is.
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Supervisor.Vms;

/// <summary>What one host said when it was asked for a repair: that it does not know the VM (<paramref name="Fact"/> is null), or nothing (<paramref name="Error"/> says why).</summary>
internal sealed record HostWord(HostName Host, VmFact? Fact, FabricError? Error)
{
    public RepairHost Report() => new(
        Host, Error is null, Error?.Message, Fact?.Owner == true, Fact?.State, Fact?.RunEpoch, Fact?.ProcessId,
        Fact?.Outgoing is { } outgoing ? new RepairOutgoing(outgoing.Migration, outgoing.Phase, outgoing.HandOverEpoch) : null,
        Fact?.Incoming is { } incoming ? new RepairIncoming(incoming.Migration, incoming.Phase, incoming.HandOverEpoch) : null);
}

/// <summary>Exactly one of them is set, or none: then the journal agrees with the hosts.</summary>
internal readonly record struct RepairVerdict(FabricError? Refusal, VmRepaired? Adoption);

internal static class RepairRules
{
    /// <param name="state">What the VM's ledger in the journal adds up to.</param>
    /// <param name="active">The migration under way, if any, as far as it has come.</param>
    /// <param name="words">Of every host that could have the VM.</param>
    /// <param name="now">For the event.</param>
    /// <param name="reason">For the event.</param>
    public static RepairVerdict Judge(VmState state, KnownState? active, IReadOnlyList<HostWord> words, DateTimeOffset now, string reason)
    {
        if (state.Status is VmStatus.Creating or VmStatus.Deleting)
            return Refuse(ErrorCodes.Conflict, $"VM '{state.Name}' is being {(state.Status == VmStatus.Creating ? "created" : "deleted")}.", "Wait until that is over.");
        var silent = words.Where(static w => w.Error is not null).Select(static w => $"'{w.Host}'").ToList();
        if (silent.Count > 0)
            return Refuse(ErrorCodes.RefusedBySafety, $"Not every host answers: {string.Join(", ", silent)} may have VM '{state.Name}' as well.", "Bring the host's daemon back, then try again.");
        var owners = words.Where(static w => w.Fact is { Owner: true }).ToList();
        if (owners.Count == 0)
            return Refuse(ErrorCodes.RefusedBySafety, $"No host has the right to run VM '{state.Name}'.", Undecided(state));
        if (owners.Count > 1)
            return Refuse(ErrorCodes.RefusedBySafety, $"{owners.Count} hosts say that they may run VM '{state.Name}': {string.Join(", ", owners.Select(static w => $"'{w.Host}'"))}.", "Look at both consoles, and delete the wrong one's daemon state only when its machine is off.");
        var (host, fact) = (owners[0].Host, owners[0].Fact!);
        if (state.Status == VmStatus.Present && state.Owner == host && (state.Epoch == fact.RunEpoch || state.Active is not null))
            return default;
        if (Untrue(state, host, fact) is { } untrue)
            return new RepairVerdict(untrue, null);
        if (active is ActiveState && Brain.AbortRefusal(active) is { } refusal)
            return Refuse(ErrorCodes.RefusedBySafety, $"Migration {active.Plan.Id} stands in the way. {refusal.Message}", "It goes on by itself now that every host answers: fabric migration watch " + active.Plan.Id);
        var highest = words.SelectMany(static w => Epochs(w.Fact)).Append(state.Highest).Max();
        return new RepairVerdict(null, new VmRepaired(now, fact.Spec, host, fact.RunEpoch, highest, reason));
    }

    /// <summary>A host's word that cannot be the truth about this VM: another life of the name, or a state directory that was restored from an old copy.</summary>
    private static FabricError? Untrue(VmState state, HostName host, VmFact fact) => state.Status switch
    {
        VmStatus.Absent when fact.RunEpoch <= state.Highest => new FabricError(
            ErrorCodes.RefusedBySafety, $"VM '{state.Name}' was deleted, and '{host}' shows what is left of it (run epoch {fact.RunEpoch}).", "It is removed when its host is told."),
        VmStatus.Lost when fact.State is not (VmRunState.Running or VmRunState.Paused) || fact.Incoming is { Phase: not DestinationPhase.Complete } => new FabricError(
            ErrorCodes.RefusedBySafety, $"VM '{state.Name}' is lost: '{host}' holds the right to run it, and not all of its memory.", $"fabric vm delete {state.Name} --force"),
        _ when fact.RunEpoch < state.Epoch => new FabricError(
            ErrorCodes.RefusedBySafety,
            $"VM '{state.Name}' ran at '{state.Owner}' at run epoch {state.Epoch}, later than what '{host}' says (run epoch {fact.RunEpoch}).",
            $"Was the state directory of '{host}', or of '{state.Owner}', replaced by an old one?"),
        _ => null,
    };

    private static string Undecided(VmState state) => state.Active is { } active
        ? $"Migration {active.Id} is under way: fabric migration show {active.Id}"
        : "What the hosts show stands above; nothing is guessed.";

    private static IEnumerable<Epoch> Epochs(VmFact? fact)
    {
        if (fact is null)
            yield break;
        yield return fact.RunEpoch;
        if (fact.Outgoing is { } outgoing)
            yield return outgoing.HandOverEpoch;
        if (fact.Incoming is { } incoming)
            yield return incoming.HandOverEpoch;
    }

    private static RepairVerdict Refuse(string code, string message, string hint) => new(new FabricError(code, message, hint), null);
}
