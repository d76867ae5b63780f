using Fabric.Core;

namespace Fabric.Journal;

/// <summary>What changes of a view mean, whichever store writes them. Pure.</summary>
public static class ViewRules
{
    /// <summary>Members that are not final.</summary>
    public const int LiveMembers = 64;

    /// <summary>Final members that are remembered, the newest; older ones are forgotten with the next change.</summary>
    public const int FinalMembers = 64;

    public const int ChangesAtOnce = 256;
    public const int NameCharacters = 200;
    public const int UrlCharacters = 500;

    /// <summary>The view after the changes, at the next version.</summary>
    /// <exception cref="FabricException">conflict, not-found, exhausted, invalid-argument: none of the changes holds.</exception>
    public static ClusterView Apply(ClusterView view, IReadOnlyList<ViewChange> changes, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(view);
        RequireChanges(changes);
        foreach (var change in changes)
        {
            view = change switch
            {
                MemberJoins joins => Join(view, joins, now),
                MemberBecomes becomes => Become(view, becomes, now),
                MemberIsSuspected suspected => Suspect(view, suspected, now),
                SuspicionIsWithdrawn withdrawn => view with { Suspicions = view.Suspicions.RemoveAll(s => s.Node == withdrawn.Node && s.By == withdrawn.By) },
                _ => throw JournalRules.Invalid($"'{change.GetType().Name}' is not a change of a view.", "Use those beside ViewChange."),
            };
        }

        int live = view.Members.Count(m => !m.IsFinal);
        if (live > LiveMembers)
            throw new FabricException(ErrorCodes.Exhausted, $"The cluster would have {live} members; it can have {LiveMembers}.", "Let one leave first.");
        var kept = view.Members.Where(m => m.IsFinal).OrderByDescending(m => m.Since).Take(FinalMembers).ToHashSet();
        return view with { Version = checked(view.Version + 1), Members = view.Members.RemoveAll(m => m.IsFinal && !kept.Contains(m)) };
    }

    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireChanges(IReadOnlyList<ViewChange> changes)
    {
        ArgumentNullException.ThrowIfNull(changes);
        if (changes.Count is < 1 or > ChangesAtOnce)
            throw JournalRules.Invalid($"{changes.Count} changes of the view cannot be made at once.", $"Make 1 to {ChangesAtOnce}.");
    }

    private static ClusterView Join(ClusterView view, MemberJoins joins, DateTimeOffset now)
    {
        if (joins.Node == Guid.Empty)
            throw JournalRules.Invalid("A member needs an id.", "Take a random one at every start.");
        RequireText("name", joins.Name, NameCharacters);
        RequireText("cluster URL", joins.ClusterUrl, UrlCharacters);
        RequireText("API URL", joins.ApiUrl, UrlCharacters);
        if (view.Find(joins.Node) is { } known)
            throw new FabricException(ErrorCodes.Conflict, $"{Describe(known)} is a member already.", "A node that starts takes a new random id.");
        return view with { Members = view.Members.Add(new Member(joins.Node, joins.Name, joins.ClusterUrl, joins.ApiUrl, MemberState.Joining, now, now)) };
    }

    private static ClusterView Become(ClusterView view, MemberBecomes becomes, DateTimeOffset now)
    {
        var member = Require(view, becomes.Node);
        if (!Enum.IsDefined(becomes.State))
            throw JournalRules.Invalid($"{(int)becomes.State} is not a member's state.", "Use Up, Leaving, Left or Dead.");
        if (member.State == becomes.State)
            return view;
        if (member.IsFinal)
            throw Final(member);
        if (becomes.State == MemberState.Joining)
            throw new FabricException(ErrorCodes.Conflict, $"{Describe(member)} cannot join again.", "A node that starts takes a new random id.");
        var next = member with { State = becomes.State, Since = now };
        view = view with { Members = view.Members.Replace(member, next) };
        return next.IsFinal ? view with { Suspicions = view.Suspicions.RemoveAll(s => s.Node == next.Node || s.By == next.Node) } : view;
    }

    private static ClusterView Suspect(ClusterView view, MemberIsSuspected suspected, DateTimeOffset now)
    {
        foreach (var node in new[] { suspected.Node, suspected.By })
        {
            if (Require(view, node) is { IsFinal: true } final)
                throw Final(final);
        }

        return view.Suspicions.Any(s => s.Node == suspected.Node && s.By == suspected.By)
            ? view
            : view with { Suspicions = view.Suspicions.Add(new Suspicion(suspected.Node, suspected.By, now)) };
    }

    private static Member Require(ClusterView view, Guid node) =>
        view.Find(node) ?? throw new FabricException(ErrorCodes.NotFound, $"The cluster has no member {node:D}.", "It left or died long ago, or never joined.");

    private static FabricException Final(Member member) => new(
        ErrorCodes.Conflict, $"{Describe(member)} is {(member.State == MemberState.Dead ? "dead" : "gone")}, and that is final.", "The node must start again: it then joins as a new member.");

    private static string Describe(Member member) => $"'{Label.Shorten(member.Name)}' ({member.Node:D})";

    private static void RequireText(string what, string? text, int most)
    {
        if (!JournalRules.IsText(text, most))
            throw JournalRules.Invalid($"'{Label.Shorten(text)}' cannot be a member's {what}.", $"It has 1 to {most} characters, none of them a control character.");
    }
}
