using Fabric.Journal;

namespace Fabric.Cluster.Membership;

/// <summary>Asks another control node, directly, whether it is there: HTTP/2 in production, memory in tests and simulation.</summary>
public interface IPeerProbe
{
    /// <summary>True when exactly this life of the node answered; false when it did not, or another life of it did. Throws only when cancelled.</summary>
    Task<bool> AnswersAsync(Member peer, CancellationToken cancellation);
}
