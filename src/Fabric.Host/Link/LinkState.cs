using Fabric.Core;
using Fabric.Transfer;

namespace Fabric.Host.Link;

/// <summary>One peer: the budget of the link to it and the streams that share it.</summary>
internal sealed record PeerLink(BandwidthCap Cap, int Streams);

/// <summary>The links of this host, by peer. Touched by the link actor's turn only.</summary>
internal sealed class LinkState
{
    internal Dictionary<HostName, PeerLink> Peers { get; } = [];
}
