using System.Diagnostics.Metrics;

namespace Fabric.Host.Balloon;

/// <summary>Counters of balloon orders; no VM's name on any of them.</summary>
public sealed class BalloonMetrics(Meter meter)
{
    private readonly Counter<long> _targets = meter.CreateCounter<long>("fabric_balloon_targets_total", description: "Balloon targets set.");
    private readonly Counter<long> _taken = meter.CreateCounter<long>("fabric_balloon_taken_bytes_total", "By", "Free memory that guests' balloons held when a migration began to copy.");
    private readonly Counter<long> _pressure = meter.CreateCounter<long>("fabric_balloon_pressure_total", description: "Guests that were given everything back at once, since they needed it.");

    private readonly UpDownCounter<long> _held = meter.CreateUpDownCounter<long>("fabric_balloon_held_bytes", "By", "Free memory that the balloons of VMs with a loop of their own were asked to hold.");

    internal void TargetSet() => _targets.Add(1);

    internal void Taken(long bytes) => _taken.Add(bytes);

    internal void Held(long more) => _held.Add(more);

    internal void Pressure() => _pressure.Add(1);
}
