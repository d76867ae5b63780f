using System.Globalization;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor.Vms;

/// <summary>A deletion that a host was not there to hear of. <paramref name="Highest"/>: no run of the deleted VM was above it. <paramref name="Lost"/>: the migration that lost it.</summary>
internal sealed record UnheardDeletion(HostName Host, int Birth, Epoch Highest, MigrationId? Lost);

/// <summary>Compares what a host shows of a VM with what the journal says is over. Pure: reads the board, decides nothing that is not durable.</summary>
internal static class Leftovers
{
    /// <summary>The command that a host must still be given about a VM, made from the shard's epoch and an attempt; null when all is as it should be.</summary>
    public static Func<Epoch, int, AgentCommand>? At(Board board, HostName host, VmFact fact)
    {
        // Asked for every VM in every answer of every host: nothing is allocated unless something is left.
        if (Ended(board, fact.Outgoing?.Migration) is { } outgoing && Brain.Leftover(outgoing, host, fact) is { } atSource)
            return Tidy(outgoing, atSource);
        if (Ended(board, fact.Incoming?.Migration) is { } incoming && Brain.Leftover(incoming, host, fact) is { } atDestination)
            return Tidy(incoming, atDestination);
        if (board.Vm(fact.Name) is not { } vm)
            return null;
        foreach (var deletion in vm.Unheard)
        {
            if (deletion.Host == host && IsLeftOf(fact, deletion))
                return Delete(fact.Name, deletion);
        }

        return null;
    }

    public static DeleteVm DeleteCommand(VmName vm, int birth, Epoch highest, MigrationId? lost, Epoch shardEpoch, string step) => new(new CommandHeader(
        CommandIds.For(string.Create(CultureInfo.InvariantCulture, $"vm/{vm}/{birth}"), step, 0), vm, shardEpoch, highest, lost));

    private static Func<Epoch, int, AgentCommand> Tidy(TerminalState end, MigrationStep leftover) => (epoch, attempt) => Brain.TidyCommand(end, leftover, epoch, attempt);

    private static Func<Epoch, int, AgentCommand> Delete(VmName vm, UnheardDeletion deletion) =>
        (epoch, attempt) => DeleteCommand(vm, deletion.Birth, deletion.Highest, deletion.Lost, epoch, $"unheard-delete-{attempt}");

    private static TerminalState? Ended(Board board, MigrationId? migration) => migration is { } id ? board.Migration(id) as TerminalState : null;

    /// <summary>The deleted VM itself, not a later one of the same name that runs at, or is on its way to, the same host.</summary>
    private static bool IsLeftOf(VmFact fact, UnheardDeletion deletion) =>
        fact.RunEpoch <= deletion.Highest && (fact.Owner || (deletion.Lost is { } lost && (fact.Outgoing?.Migration == lost || fact.Incoming?.Migration == lost)));
}
