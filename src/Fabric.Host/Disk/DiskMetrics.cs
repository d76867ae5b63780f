using System.Diagnostics.Metrics;

namespace Fabric.Host.Disk;

/// <summary>Counters of disk checks; no VM's name on any of them.</summary>
public sealed class DiskMetrics(Meter meter)
{
    private readonly Counter<long> _refused = meter.CreateCounter<long>("fabric_disk_refusals_total", description: "Migrations refused because of a disk.");

    internal void Refused() => _refused.Add(1);
}
