using System.Collections.Immutable;

namespace Fabric.Journal;

/// <summary>Where a member is in its life. <see cref="Left"/> and <see cref="Dead"/> are final: a node that starts again is another member.</summary>
public enum MemberState
{
    Joining,
    Up,
    Leaving,
    Left,
    Dead,
}

/// <summary>
/// One life of a control node. <paramref name="Node"/> is random and new with every start. <paramref name="Since"/> is when it came into this state and
/// <paramref name="BeatAt"/> when it last said that it lives, both by the store's clock.
/// </summary>
public sealed record Member(Guid Node, string Name, string ClusterUrl, string ApiUrl, MemberState State, DateTimeOffset Since, DateTimeOffset BeatAt)
{
    /// <summary>The name by which this member holds leases: so that they are free as soon as it is final.</summary>
    public string Holder => HolderOf(Node);

    public bool IsFinal => State is MemberState.Left or MemberState.Dead;

    public static string HolderOf(Guid node) => node.ToString("D");
}

/// <summary><paramref name="By"/> cannot reach <paramref name="Node"/>, or does not see it beat, since <paramref name="At"/> (the store's clock).</summary>
public sealed record Suspicion(Guid Node, Guid By, DateTimeOffset At);

/// <summary>
/// Who is in the cluster, as one value. <paramref name="Cluster"/> is the incarnation of the store's content: another one means that the store went back in
/// time and everybody starts anew. <paramref name="Version"/> is raised by every change. Members are in the order in which they joined.
/// </summary>
public sealed record ClusterView(Guid Cluster, long Version, ImmutableArray<Member> Members, ImmutableArray<Suspicion> Suspicions)
{
    public Member? Find(Guid node) => Members.FirstOrDefault(m => m.Node == node);
}

/// <summary>One step from a view to the next. Times are the store's, taken when the change is written.</summary>
public abstract record ViewChange(Guid Node);

/// <summary>A new member, <see cref="MemberState.Joining"/>.</summary>
public sealed record MemberJoins(Guid Node, string Name, string ClusterUrl, string ApiUrl) : ViewChange(Node);

/// <summary>Any state but <see cref="MemberState.Joining"/>; never away from a final one. Suspicions of and by a member that becomes final are dropped.</summary>
public sealed record MemberBecomes(Guid Node, MemberState State) : ViewChange(Node);

/// <summary>Said again, it keeps its first time.</summary>
public sealed record MemberIsSuspected(Guid Node, Guid By) : ViewChange(Node);

public sealed record SuspicionIsWithdrawn(Guid Node, Guid By) : ViewChange(Node);

/// <summary>
/// The members of a cluster as rows of the store. Every change is one compare-and-swap transaction on (cluster, version): of two that race, one sees the other's
/// view and decides again. Beats are no changes. A <see cref="Fabric.Core.FabricException"/> with code store-failed means that the outcome is unknown.
/// </summary>
public interface IMembership
{
    Task<ClusterView> ReadViewAsync(CancellationToken cancellation);

    /// <summary>Writes all changes or none. Not changed: the view is no longer <paramref name="seen"/>, and what is returned is the one that is.</summary>
    /// <exception cref="Fabric.Core.FabricException">conflict: the member is final, or known already; not-found: there is none; exhausted: there are too many; invalid-argument.</exception>
    Task<(ClusterView Now, bool Changed)> ChangeAsync(ClusterView seen, IReadOnlyList<ViewChange> changes, CancellationToken cancellation);

    /// <summary>This member lives: notes the store's time, without a new version. One that is final or unknown is not noted; the version tells it to read the view.</summary>
    Task<(Guid Cluster, long Version)> BeatAsync(Guid node, CancellationToken cancellation);

    /// <summary>
    /// The store went back in time: a new cluster id, and all leases are free (epochs stay, so each is acquired at a higher one). Not changed: the cluster
    /// is no longer <paramref name="expected"/>, so somebody else did it.
    /// </summary>
    Task<(ClusterView Now, bool Changed)> RenewClusterAsync(Guid expected, CancellationToken cancellation);
}
