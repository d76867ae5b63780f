// Which records exist, on which way of a migration each is written, and whom it can hit. Rows are made from this; a test compares it with
// the kinds that the product knows.
using System.Collections.Frozen;
using System.Collections.Immutable;
using Fabric.Migration;

namespace Fabric.Chaos.Rows;

public static class ChaosTable
{
    /// <summary>Ledger records of the source → the way on which it writes them.</summary>
    public static FrozenDictionary<string, Way> Source { get; } = new Dictionary<string, Way>
    {
        ["push-started"] = Way.Forward,
        ["answered"] = Way.Forward,
        ["handing-over"] = Way.Forward,
        ["token-sent"] = Way.Forward,
        ["handed-over"] = Way.Forward,
        ["drained"] = Way.Forward,
        ["released"] = Way.Forward,
        ["push-ended"] = Way.PushBreaks,
        ["withdrawn"] = Way.HandOverBreaks,
        ["taken-back"] = Way.TokenLost,
    }.ToFrozenDictionary();

    public static FrozenDictionary<string, Way> Destination { get; } = new Dictionary<string, Way>
    {
        ["shard-seen"] = Way.Forward,
        ["incoming"] = Way.Forward,
        ["machine-started"] = Way.Forward,
        ["answered"] = Way.Forward,
        ["accepted"] = Way.Forward,
        ["complete"] = Way.Forward,
        ["refused"] = Way.PreparationBreaks,
        ["machine-gone"] = Way.PreparationBreaks,
        ["lost"] = Way.PullDies,
    }.ToFrozenDictionary();

    /// <summary>Events of the supervisor's journal.</summary>
    public static FrozenDictionary<string, Way> Control { get; } = new Dictionary<string, Way>
    {
        ["migration-planned"] = Way.Forward,
        ["destination-prepared"] = Way.Forward,
        ["push-started"] = Way.Forward,
        ["hand-over-intended"] = Way.Forward,
        ["handed-over"] = Way.Forward,
        ["pull-completed"] = Way.Forward,
        ["source-released"] = Way.Forward,
        ["hand-over-withdrawn"] = Way.HandOverBreaks,
        ["token-outcome-unknown"] = Way.TokenWaits,
        ["take-back-intended"] = Way.TokenLost,
        ["step-failed"] = Way.PushBreaks,
        ["undo-done"] = Way.PushBreaks,
        ["migration-undone"] = Way.PushBreaks,
        ["abort-requested"] = Way.Abort,
        ["vm-lost"] = Way.PullDies,
        ["fencing-needed"] = Way.DestinationSilent,
        ["destination-returned"] = Way.DestinationSilent,
    }.ToFrozenDictionary();

    /// <summary>Ledger records that no migration writes: creation, deletion, and the compaction of a long file.</summary>
    public static FrozenSet<string> NotOfAMigration { get; } = FrozenSet.Create("owned", "deleted", "summary");

    /// <summary>Written only where a guest's driver runs a balloon, which the boot blocks of these rows do not: BalloonLoanTests of Fabric.Unit kill agents at it.</summary>
    public static FrozenSet<string> OfABalloon { get; } = FrozenSet.Create("memory-returned");

    /// <summary>Events that nothing writes yet (fencing by a third party is not part of this version), and the one that only a journal which was put back needs: StoreRestoredTests.</summary>
    public static FrozenSet<string> NotWritten { get; } = FrozenSet.Create("destination-fenced", "recovery-completed", "hand-over-found");

    /// <summary>Events at which a lone control node is killed unless the whole grid is asked for: OwnerTests kills the node that owns the migration at every one.</summary>
    private static FrozenSet<string> OfALoneNode { get; } = FrozenSet.Create("push-started", "hand-over-intended", "take-back-intended", "vm-lost");

    /// <summary>Each kind with each victim once; moment and mode go round.</summary>
    public static IReadOnlyList<ChaosRow> Chosen()
    {
        var rows = new List<ChaosRow>();
        foreach (var group in All().Where(static r => r.Way != Way.DestinationSilent).GroupBy(static r => (r.At.Daemon, r.At.Kind, r.Victim)))
        {
            // Which party writes a record decides what its own death there means: at a ledger record its own agent (and machine) is hit, at an event everybody.
            bool own = group.Key.Daemon == Step.Control
                || group.Key.Victim == (group.Key.Daemon == Step.Source ? Victim.SourceAgent : Victim.DestinationAgent)
                || (group.Key.Daemon == Step.Destination && group.Key.Victim == Victim.DestinationMachine);
            var choices = group.ToList();
            if (own && (group.Key.Victim != Victim.Supervisor || group.Key.Daemon != Step.Control || OfALoneNode.Contains(group.Key.Kind)))
                rows.Add(choices[rows.Count % choices.Count]);
        }

        return rows;
    }

    /// <summary>The whole grid.</summary>
    public static IReadOnlyList<ChaosRow> All()
    {
        var rows = new List<ChaosRow>();
        foreach (var (daemon, table) in new[] { (Step.Control, Control), (Step.Source, Source), (Step.Destination, Destination) })
        {
            foreach (var (kind, way) in table.OrderBy(static e => e.Key, StringComparer.Ordinal))
            {
                foreach (var victim in OfOneNode.Where(v => v != Victim.DestinationMachine || MachineIsThere(daemon, kind, way)))
                    rows.AddRange(new[] { Step.Before, Step.After }.SelectMany(moment => Modes(way).Select(mode => new ChaosRow(new Step(daemon, moment, kind), victim, mode, way))));
            }
        }

        return rows;
    }

    /// <summary>The node that owns the migration, at every event that it writes, where others can take over; modes and moments go round unless <paramref name="all"/>.</summary>
    public static IReadOnlyList<ChaosRow> OfOwners(Victim victim, bool all)
    {
        var rows = new List<ChaosRow>();
        foreach (var (kind, way) in Control.OrderBy(static e => e.Key, StringComparer.Ordinal).Where(e => all || e.Value != Way.DestinationSilent))
        {
            var choices = new[] { Step.Before, Step.After }.SelectMany(moment => Modes(way).Select(mode => new ChaosRow(new Step(Step.Control, moment, kind), victim, mode, way))).ToList();
            rows.AddRange(all ? choices : [choices[rows.Count % choices.Count]]);
        }

        return rows;
    }

    private static readonly ImmutableArray<Victim> OfOneNode = [Victim.SourceAgent, Victim.DestinationAgent, Victim.DestinationMachine, Victim.Supervisor];

    /// <summary>What happens in the pull needs one.</summary>
    private static MigrationMode[] Modes(Way way) =>
        way is Way.PullDies or Way.DestinationSilent ? [MigrationMode.PostCopy] : [MigrationMode.PreCopy, MigrationMode.PostCopy];

    /// <summary>Before the destination has made its machine, and after it has refused, there is none to kill.</summary>
    private static bool MachineIsThere(string daemon, string kind, Way way) =>
        way is Way.Forward or Way.Abort or Way.TokenWaits && !(daemon == Step.Control && kind == "migration-planned") && !(daemon == Step.Destination && kind is "shard-seen" or "incoming");
}
