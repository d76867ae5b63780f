using Fabric.Journal;

namespace Fabric.Cluster.Membership;

/// <summary>
/// Who is to be declared dead. Nobody dies by one witness. Witnesses against a node are the other nodes that are up and whose suspicion stands in the view,
/// and the store, when the node has not beaten there for <c>beatLimit</c> by the store's own clock:
/// <code>
///   the node beats:        more than half of the others, and at least two of them
///   the node has stopped:  at least one other, and the store
///   it is alone:           nobody: a cluster of one is fenced by its lease alone
/// </code>
/// So a cut between two nodes kills neither while the store hears both, and a node that is frozen or dead is declared so after one probe series. A wrong
/// verdict costs a hand-over of shards and never safety: that rests on the epochs. Pure.
/// </summary>
public static class Verdict
{
    /// <param name="view">What is judged; just read, after the judge's own beat.</param>
    /// <param name="by">The judge: its beat is now by the store's clock. The newest beat is not: that clock may have been set back since.</param>
    /// <param name="node">About whom.</param>
    /// <param name="beatLimit">How far its beat may be from now. One that is ahead was made before the clock was set back, and none since.</param>
    public static bool IsDead(ClusterView view, Guid by, Guid node, TimeSpan beatLimit)
    {
        ArgumentNullException.ThrowIfNull(view);
        if (view.Find(node) is not { IsFinal: false } accused || view.Find(by) is not { } judge)
            return false;
        var others = view.Members.Where(m => m.Node != node && (m.State is MemberState.Up or MemberState.Leaving)).Select(m => m.Node).ToHashSet();
        int witnesses = view.Suspicions.Where(s => s.Node == node && others.Contains(s.By)).Select(s => s.By).Distinct().Count();
        bool silent = (judge.BeatAt - accused.BeatAt).Duration() > beatLimit;
        return silent ? witnesses >= 1 : witnesses >= 2 && witnesses > others.Count / 2;
    }
}
