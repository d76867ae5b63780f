using Fabric.Actors;
using Fabric.Core;
using Fabric.Transfer;

namespace Fabric.Host.Link;

/// <summary>Everything that a host's link actor hears.</summary>
public abstract record LinkMessage;

/// <summary>A stream to this peer begins. Answered with the budget that all streams to the peer share.</summary>
internal sealed record OpenStream(HostName Peer, IReply<BandwidthCap> Reply) : LinkMessage;

internal sealed record CloseStream(HostName Peer) : LinkMessage;
