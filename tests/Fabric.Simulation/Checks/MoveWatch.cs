using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Checks;

/// <summary>
/// I10 from the ledgers of the hosts: when a move of an evacuation begins at a host, no more moves than the limits allow are under way there, whichever control nodes began them.
/// Moves that an operator asks for one by one wait for nothing; they are counted, not judged. A pull counts in its first moments only: one that cannot go on gives its place back, as does a token whose outcome is unknown.
/// </summary>
internal sealed class MoveWatch(World world)
{
    /// <summary>No pull is called stalled sooner than this after the hand-over.</summary>
    private static readonly TimeSpan SurelyPulling = TimeSpan.FromSeconds(2.5);

    private readonly Dictionary<MigrationId, TimeSpan> _handedOver = [];

    internal void Recorded(SimHost host, VmName vm, VmRecord record)
    {
        var limits = world.Plan.Limits;
        switch (record)
        {
            case VmRecord.HandedOver r:
                _handedOver[r.Migration] = world.Now;
                break;
            case VmRecord.IncomingExpected r when world.Observer.Journal.IsOfBatch(r.Migration):
                var incoming = Here(host).Select(static ledger => ledger.Incoming).Where(static i => i is { Step: IncomingStep.Expected or IncomingStep.Accepted }).ToList();
                Judge($"{vm} to '{host.Name}'", incoming.Count, limits.PerDestination, incoming.Count(i => i!.Source == r.Source), limits.PerLink);
                break;
            case VmRecord.PushStarted r when world.Observer.Journal.IsOfBatch(r.Migration):
                var outgoing = Here(host).Select(static ledger => ledger.Outgoing)
                    .Where(o => o is { Phase: SourcePhase.Pushing or SourcePhase.HandingOver } || (o is { Phase: SourcePhase.HandedOver } && SurelyPulls(o.Migration))).ToList();
                Judge($"{vm} from '{host.Name}'", outgoing.Count, limits.PerSource, outgoing.Count(o => o!.Destination == r.Destination), limits.PerLink);
                break;
            default:
                break;
        }
    }

    private bool SurelyPulls(MigrationId migration) => _handedOver.TryGetValue(migration, out var since) && world.Now - since < SurelyPulling;

    private static IEnumerable<VmLedgerState> Here(SimHost host) => host.Disk.Opened.Values.Select(static ledger => ledger.State);

    private void Judge(string move, int moves, int most, int link, int mostOfLink)
    {
        if (moves > most || link > mostOfLink)
            world.Observer.Violated("I10", $"an evacuation moves {move} as one of {moves} there, {link} of them on its link; allowed are {most} and {mostOfLink}");
    }
}
