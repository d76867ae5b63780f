using System.Diagnostics.Metrics;

namespace Fabric.Host.Link;

/// <summary>Counters of streams; no VM's name on any of them.</summary>
public sealed class LinkMetrics(Meter meter)
{
    private readonly UpDownCounter<int> _streams = meter.CreateUpDownCounter<int>("fabric_link_streams", description: "Outgoing page streams that are open.");

    internal void Opened() => _streams.Add(1);

    internal void Closed() => _streams.Add(-1);
}
