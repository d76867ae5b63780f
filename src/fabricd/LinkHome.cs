using System.Diagnostics.Metrics;
using Fabric.Actors;
using Fabric.Host.Link;

namespace Fabric.Daemon;

/// <summary>The link actor outlives the agent's own actors, whose streams it counts: it has a system of its own.</summary>
internal sealed class LinkHome : IAsyncDisposable
{
    private readonly ActorSystem _actors;
    private readonly Meter _meter = new("Fabric.Host.Link");

    public LinkHome(ILoggerFactory logs, TimeProvider time)
    {
        _actors = new ActorSystem(time, new Random(), new ThreadPoolDispatcher(), logs);
        Actor = LinkBudgets.Spawn(_actors, bytesPerSecond: null, new LinkMetrics(_meter));
    }

    public IActorRef<LinkMessage> Actor { get; }

    public async ValueTask DisposeAsync()
    {
        await _actors.DisposeAsync();
        _meter.Dispose();
    }
}
