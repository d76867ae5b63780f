namespace Fabric.Cluster.Membership;

/// <summary>How fast the loss of a control node is noticed. With the defaults a killed node is declared dead after about two seconds.</summary>
public sealed record MembershipOptions
{
    public static MembershipOptions Default { get; } = new();

    /// <summary>Between two beats in the store, and between two rounds of probes; jitter of a quarter.</summary>
    public TimeSpan Period { get; init; } = TimeSpan.FromMilliseconds(400);

    /// <summary>Of one probe.</summary>
    public TimeSpan ProbeDeadline { get; init; } = TimeSpan.FromMilliseconds(400);

    /// <summary>Probes in a row that must fail before this node suspects another.</summary>
    public int MissedProbes { get; init; } = 3;

    /// <summary>Age, by the store's clock, from which on a node's last beat counts against it.</summary>
    public TimeSpan BeatLimit { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>For which one call of the store is waited.</summary>
    public TimeSpan StoreDeadline { get; init; } = TimeSpan.FromSeconds(5);
}
