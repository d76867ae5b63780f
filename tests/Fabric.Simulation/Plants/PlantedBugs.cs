using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Simulation.Worlds;
using Fabric.Wire.Api;

namespace Fabric.Simulation.Plants;

/// <summary>
/// Deliberate bugs, one at a time, by name. Each stands at a seam around the real code; a simulator that does not find them all proves nothing.
/// </summary>
internal sealed class PlantedBugs(string? name)
{
    private readonly HashSet<(HostName, VmName)> _tokenHeldBack = [];
    private int _times;

    /// <summary>Name → what is wrong, and which invariants should see it.</summary>
    internal static IReadOnlyDictionary<string, string> All { get; } = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["resume-on-timeout"] = "the source lets its guest run again when a hand-over takes long (I1, I3)",
        ["forget-fsync"] = "ledger records are not synced and go with the host's power (I3, I5, I7)",
        ["ack-before-append"] = "the journal answers before it has written (I5)",
        ["unfenced-append"] = "the journal does not compare the epoch of an append (I5)",
        ["reuse-epoch"] = "acquiring a shard does not raise its epoch (I5)",
        ["forget-answers"] = "agents do not store their answers (I7)",
        ["late-token-record"] = "token-sent is not on disk when the token leaves (I1, I3)",
        ["refuse-in-vain"] = "a refusal is answered yes although the token was accepted (I1, I5)",
        ["forget-dirty-page"] = "a written page is not reported as dirty (I3)",
        ["stale-page"] = "a page arrives in an older version (I3)",
        ["untrapped-holes"] = "missing pages read as zeros (I3)",
        ["early-pull-done"] = "a pull is said to be complete before it is (I3, I8)",
        ["keep-disk-lock"] = "the source keeps the disk when it hands over (I2)",
        ["lost-continue"] = "one order to continue is answered and not done (I8, I9)",
        ["leak-machine"] = "a machine that was ended lives on (I8)",
        ["keep-throttle"] = "a guest that was held back for its migration stays slow after it (I8)",
        ["adopt-slow"] = "a guest whose agent died while it was held back stays slow (I8)",
        ["no-limits"] = "evacuations move all at once (I10)",
        ["old-answers"] = "the API answers what it answered first (I11)",
        ["skip-epoch-check"] = "an agent does what an owner of an older shard epoch sent (I5)",
        ["deaf-probes"] = "no node hears another, although nothing is cut (I12)",
        ["stale-views"] = "a node is never told that the view has changed (I8)",
        ["rewrite-end"] = "an event follows a migration's end (I6)",
        ["two-at-once"] = "a claim is journaled beside another (I4)",
    };

    internal string? Name => name;

    internal bool On(string bug) => name == bug;

    /// <summary>True the second time that it is asked for: the first is often harmless.</summary>
    internal bool Once(string bug) => name == bug && ++_times == 2;

    /// <summary>Records that never reach the disk.</summary>
    internal bool Drops(SimHost host, VmName vm, VmRecord record) => name switch
    {
        "forget-answers" => record is VmRecord.Answered,
        "late-token-record" when record is VmRecord.TokenSent => _tokenHeldBack.Add((host.Name, vm)),
        // What follows a held-back token-sent contradicts the file without it.
        "late-token-record" => _tokenHeldBack.Contains((host.Name, vm)) && record is VmRecord.HandedOver or VmRecord.Drained or VmRecord.Released or VmRecord.TakenBack,
        _ => false,
    };

    /// <summary>What the agent takes a command for.</summary>
    internal AgentCommand Received(AgentCommand command, (Epoch Epoch, Guid Term) seen) => name == "skip-epoch-check" && command.Header.ShardEpoch < seen.Epoch
        ? command with { Header = command.Header with { ShardEpoch = seen.Epoch, ShardTerm = seen.Term } }
        : command;

    /// <summary>What is answered instead.</summary>
    internal CommandResult Answer(AgentCommand command, CommandResult result) =>
        name == "refuse-in-vain" && command is RefuseIncoming && !result.Ok ? result with { Error = null } : result;

    /// <summary>What is written instead.</summary>
    internal IReadOnlyList<NewEvent> Written(IReadOnlyList<NewEvent> events) => (name, events[^1].Kind) switch
    {
        ("rewrite-end", "source-released" or "migration-undone" or "vm-lost") => [.. events, events[^1]],
        ("two-at-once", "migration-claimed") => [.. events, events[^1]],
        _ => events,
    };

    internal MigrationReport Reported(MigrationReport report) => name == "old-answers" ? report with { State = "planned" } : report;

    internal IReadOnlyList<(int Page, long Version)> Stale(List<(int Page, long Version)> data)
    {
        if (name != "stale-page" || data.Count == 0 || ++_times % 5 != 0)
            return data;
        data[0] = data[0] with { Version = Math.Max(1, data[0].Version - 1) };
        return data;
    }
}
