using Fabric.Journal;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Checks;

/// <summary>Sees every view of the cluster as it is written: I12.</summary>
internal sealed class MembershipWatch(World world)
{
    /// <summary>How long after the last trouble of a node the others may still hold it for dead: a series of missed probes, a call of the store and the verdict.</summary>
    private static readonly TimeSpan Aftermath = TimeSpan.FromSeconds(10);

    private readonly Dictionary<Guid, MemberState> _final = [];

    internal void Changed(ClusterView before, ClusterView after)
    {
        world.Trace($"view {after.Version}: {string.Join(", ", after.Members.Where(m => !m.IsFinal || before.Find(m.Node) is not { IsFinal: true }).Select(Describe))}{Suspicions(after)}");
        if (after.Version != before.Version + 1)
            world.Observer.Violated("I12", $"the view goes from version {before.Version} to {after.Version}");
        foreach (var member in after.Members)
        {
            if (_final.TryGetValue(member.Node, out var final) && member.State != final)
                world.Observer.Violated("I12", $"{Describe(member)} was {final}, which is final");
            if (!member.IsFinal)
                continue;
            if (_final.TryAdd(member.Node, member.State) && member.State == MemberState.Dead)
                Died(member, before, after);
        }
    }

    /// <summary>Whoever lives, is reached by all and reaches the store is not declared dead.</summary>
    private void Died(Member member, ClusterView before, ClusterView after)
    {
        var node = world.Node(member);
        bool replaced = after.Members.Any(m => m.Name == member.Name && before.Find(m.Node) is null);
        if (!replaced && node.Member == member.Node && !world.Links.Disturbed && world.Now - node.TroubledUntil > Aftermath)
            world.Observer.Violated("I12", $"{Describe(member)} lives, nothing was wrong with it for {(world.Now - node.TroubledUntil).TotalSeconds:0.0} s, and it is declared dead");
    }

    private static string Suspicions(ClusterView view) => string.Concat(view.Suspicions.Select(s => $"; {view.Find(s.By)?.Name} suspects {view.Find(s.Node)?.Name}"));

    private static string Describe(Member member) => $"{member.Name} ({member.Holder[..8]}) {member.State}";
}
