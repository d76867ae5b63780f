using Fabric.Actors;

namespace Fabric.Host.Link;

/// <summary>Starts a host's link actor for whoever composes a host.</summary>
public static class LinkBudgets
{
    /// <param name="actors">Where it lives.</param>
    /// <param name="bytesPerSecond">What all streams to one peer may use together; null for no limit.</param>
    /// <param name="metrics">Counted into.</param>
    public static IActorRef<LinkMessage> Spawn(ActorSystem actors, long? bytesPerSecond, LinkMetrics metrics)
    {
        ArgumentNullException.ThrowIfNull(actors);
        return actors.Spawn<LinkMessage>("links", () => new LinkActor(bytesPerSecond, metrics));
    }
}
