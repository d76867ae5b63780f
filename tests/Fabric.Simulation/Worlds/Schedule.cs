using System.Globalization;
using Fabric.Migration;

namespace Fabric.Simulation.Worlds;

/// <summary>What an operator does or what breaks. A and B choose hosts, nodes or VMs by number, modulo how many there are.</summary>
internal enum Deed
{
    Create,
    Migrate,
    Abort,
    Evacuate,
    Delete,
    DeleteByForce,
    Cordon,
    Uncordon,

    /// <summary>A node that is not there from the beginning comes.</summary>
    StartNode,

    KillAgent,
    KillAgentAtAppend,
    LosePower,
    LosePowerAtAppend,
    FreezeAgent,
    KillNode,
    KillNodeAtAppend,
    FreezeNode,
    LeaveNode,
    LoseNode,
    HoldCommand,
    EndMachine,
    SlowMachines,
    RefuseMachines,
    FailAdoption,
    CutOneWay,
    CutBothWays,
    CutControlOneWay,
    CutControl,
    CutNodesOneWay,
    CutNodes,
    IsolateNode,
    DisturbNetwork,
    StoreDown,
    StoreFlaky,
    StoreCutOff,
    StoreClockJumps,
    HostClockJumps,
    NodeClockJumps,
    DiskFull,
    DiskError,
}

/// <summary>One entry of a schedule. <paramref name="For"/>: how long a fault lasts. <paramref name="N"/>: a count, a mode, a share; by deed.</summary>
internal sealed record Entry(TimeSpan At, Deed Deed, int A, int B, int N, TimeSpan For)
{
    internal bool IsFault => Deed >= Deed.KillAgent;

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture, $"{At.TotalSeconds,8:0.000} s  {Deed,-18} a={A} b={B} n={N}{(For > TimeSpan.Zero ? $" for {For.TotalSeconds:0.000} s" : "")}");
}

/// <summary>Everything that a seed says of a world before it begins.</summary>
internal sealed record Plan(
    int Seed, int Hosts, int Nodes, int Vms, int Shards, BatchLimits Limits, double BytesPerSecond, TimeSpan Duration, IReadOnlyList<Entry> Schedule)
{
    internal static Plan Of(int seed)
    {
        var chance = new Chance(seed);
        int hosts = chance.Between(2, 4);
        int nodes = chance.Below(10) switch { < 3 => 1, < 5 => 2, < 8 => 3, 8 => 4, _ => 5 };
        int vms = chance.Between(1, 4);
        var duration = TimeSpan.FromSeconds(chance.Between(25, 80));
        double rate = chance.Below(4) switch { 0 => 0.3e6, 1 => 2e6, 2 => 10e6, _ => 60e6 };
        var schedule = new List<Entry>();
        for (int vm = 0; vm < vms; vm++)
            schedule.Add(new Entry(chance.Milliseconds(2500, 5000), Deed.Create, vm, chance.Below(hosts), 0, default));
        for (int node = 1; node < nodes; node++)
        {
            if (chance.Share(0.2))
                schedule.Add(new Entry(chance.Milliseconds(3000, duration.TotalMilliseconds), Deed.StartNode, node, 0, 0, default));
        }

        int deeds = chance.Between(3, 14);
        for (int i = 0; i < deeds; i++)
            schedule.Add(Operation(chance, duration));
        int faults = chance.Below(10) == 0 ? 0 : chance.Between(1, 10);
        for (int i = 0; i < faults; i++)
        {
            var fault = Fault(chance, duration, schedule);
            schedule.Add(fault);
            // Who takes over while a command of the last owner is on its way goes another way when somebody gives the move up.
            if (fault.Deed == Deed.HoldCommand && chance.Share(0.7))
                schedule.Add(new Entry(Earlier(fault.At + chance.Milliseconds(1500, 6000), duration), Deed.Abort, chance.Below(12), 0, chance.Below(12), default));
            // Two at once: what one leaves open the other hits.
            if (chance.Share(0.3))
                schedule.Add(Fault(chance, duration, schedule) with { At = Earlier(fault.At + chance.Milliseconds(0, 3000), duration) });
        }

        if (chance.Share(0.15))
            schedule.Add(new Entry(chance.Milliseconds(3000, 9000), Deed.DisturbNetwork, chance.Between(3, 11), chance.Between(3, 11), chance.Between(0, 8), default));
        return new Plan(
            seed, hosts, nodes, vms, chance.Between(1, 3), new BatchLimits(chance.Between(1, 2), chance.Between(1, 2), 1), rate, duration, [.. schedule.OrderBy(static e => e.At)]);
    }

    private static TimeSpan Earlier(TimeSpan at, TimeSpan duration) => at < duration ? at : duration - TimeSpan.FromMilliseconds(1);

    private static Entry Operation(Chance chance, TimeSpan duration)
    {
        var at = chance.Milliseconds(6000, duration.TotalMilliseconds);
        var deed = chance.Below(100) switch
        {
            < 66 => Deed.Migrate,
            < 74 => Deed.Abort,
            < 82 => Deed.Evacuate,
            < 86 => Deed.Delete,
            < 89 => Deed.DeleteByForce,
            < 94 => Deed.Create,
            < 97 => Deed.Cordon,
            _ => Deed.Uncordon,
        };
        return new Entry(at, deed, chance.Below(12), chance.Below(12), chance.Below(12), default);
    }

    /// <summary>Most faults fall into the seconds after something was begun: that is where they matter.</summary>
    private static Entry Fault(Chance chance, TimeSpan duration, List<Entry> schedule)
    {
        var at = chance.Milliseconds(4000, duration.TotalMilliseconds);
        var moves = schedule.Where(static e => e.Deed is Deed.Migrate or Deed.Evacuate).ToList();
        if (moves.Count > 0 && chance.Share(0.75))
            at = moves[chance.Below(moves.Count)].At + chance.Milliseconds(0, chance.Share(0.5) ? 1500 : 8000);
        at = Earlier(at, duration);
        var deeds = Enum.GetValues<Deed>();
        int faults = deeds.Length - (int)Deed.KillAgent;
        var deed = chance.Share(0.35)
            ? chance.Below(5) switch { 0 => Deed.KillAgentAtAppend, 1 => Deed.KillNodeAtAppend, 2 => Deed.LosePowerAtAppend, 3 => Deed.HoldCommand, _ => Deed.KillAgent }
            : deeds[(int)Deed.KillAgent + chance.Below(faults)];
        var lasts = chance.Share(0.7) ? chance.Milliseconds(20, 6000) : chance.Milliseconds(2000, 40_000);
        return new Entry(at, deed, chance.Below(12), chance.Below(12), chance.Between(1, 12), lasts);
    }
}
