using System.Diagnostics.Metrics;

namespace Fabric.Host.Balloon;

/// <summary>Counters of balloon orders; no VM's name on any of them.</summary>
public sealed class BalloonMetrics(Meter meter)
{
    private readonly Counter<long> _targets = meter.CreateCounter<long>("fabric_balloon_targets_total", description: "Balloon targets set.");

    internal void TargetSet() => _targets.Add(1);
}
