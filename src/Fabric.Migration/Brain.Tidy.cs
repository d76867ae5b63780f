// After the end. A host that was silent when a migration ended was left out (an undo that was put off, a release that was deferred); when it is back, its facts show
// what is still open of a migration that is over, and it is told. Levels again: nobody remembers who was left out, and telling twice does no harm.
using Fabric.Core;

namespace Fabric.Migration;

public static partial class Brain
{
    /// <summary>
    /// What <paramref name="host"/> still has to be told about a migration that has ended, or null. What is left of a lost VM stays until somebody deletes
    /// the VM: it may be the last copy of its memory.
    /// </summary>
    public static MigrationStep? Leftover(TerminalState end, HostName host, VmFact fact)
    {
        ArgumentNullException.ThrowIfNull(end);
        ArgumentNullException.ThrowIfNull(fact);
        var plan = end.Plan;
        if (host == plan.Source && fact.Outgoing is { } outgoing && outgoing.Migration == plan.Id)
        {
            return outgoing.Phase switch
            {
                SourcePhase.Pushing or SourcePhase.Converged => MigrationStep.Cancel,
                SourcePhase.TokenSent or SourcePhase.HandedOver or SourcePhase.Drained when end is Completed or Recovered => MigrationStep.Release,
                _ => null, // handing-over ends by itself; the rest is over
            };
        }

        bool waits = host == plan.Destination && fact.Incoming is { Phase: DestinationPhase.Preparing or DestinationPhase.Prepared or DestinationPhase.Ready } incoming
            && incoming.Migration == plan.Id;
        return waits && end is Failed or Aborted or Lost ? MigrationStep.Refuse : null;
    }

    /// <summary>The command for <see cref="Leftover"/>. Ids of their own: the ones of the migration's steps may have been answered otherwise before its end.</summary>
    public static AgentCommand TidyCommand(TerminalState end, MigrationStep leftover, Epoch shardEpoch, int attempt)
    {
        ArgumentNullException.ThrowIfNull(end);
        var plan = end.Plan;
        var header = new CommandHeader(CommandIds.For(plan.Id.ToString(), $"tidy-{leftover}", attempt), plan.Vm, shardEpoch, end.HighestEpoch, plan.Id);
        return leftover switch
        {
            MigrationStep.Cancel => new CancelOutgoing(header, $"the migration is {end.Name}"),
            MigrationStep.Release => new ReleaseSource(header),
            MigrationStep.Refuse => new RefuseIncoming(header, $"the migration is {end.Name}"),
            _ => throw new InvalidOperationException($"{leftover} is no step that tidies up."),
        };
    }
}
