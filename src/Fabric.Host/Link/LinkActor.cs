// The host's links: one bandwidth budget per peer, shared by all streams to it, whatever VM they carry. Streams themselves belong to
// the memory actors; this actor only says how fast they may be together.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Transfer;

namespace Fabric.Host.Link;

internal sealed class LinkActor(long? limit, LinkMetrics metrics) : Actor<LinkMessage>
{
    private readonly LinkState _state = new();

    protected override ValueTask ReceiveAsync(LinkMessage message)
    {
        switch (message)
        {
            case OpenStream m: OnOpen(m); break;
            case CloseStream m: OnClose(m); break;
        }

        return ValueTask.CompletedTask;
    }

    private PeerLink Link(HostName peer) =>
        _state.Peers.TryGetValue(peer, out var link) ? link : new PeerLink(new BandwidthCap(limit, Context.Time), 0);

    private void OnOpen(OpenStream m)
    {
        var link = Link(m.Peer);
        _state.Peers[m.Peer] = link with { Streams = link.Streams + 1 };
        metrics.Opened();
        m.Reply.Succeed(link.Cap);
    }

    private void OnClose(CloseStream m)
    {
        if (!_state.Peers.TryGetValue(m.Peer, out var link) || link.Streams == 0)
            return;
        metrics.Closed();
        // A peer without streams needs no memory.
        if (link.Streams == 1)
            _state.Peers.Remove(m.Peer);
        else
            _state.Peers[m.Peer] = link with { Streams = link.Streams - 1 };
    }
}
