using System.Diagnostics.Metrics;

namespace Fabric.Host.Memory;

/// <summary>Counters of page traffic; no VM's name on any of them.</summary>
public sealed class MemoryMetrics(Meter meter)
{
    private readonly Counter<long> _rounds = meter.CreateCounter<long>("fabric_migration_rounds_total", description: "Push rounds that the destination confirmed.");
    private readonly Counter<long> _pages = meter.CreateCounter<long>("fabric_migration_pages_total", description: "Pages sent in push rounds.");
    private readonly Counter<long> _breaks = meter.CreateCounter<long>("fabric_transfer_breaks_total", description: "Streams that ended with an error.");

    internal void Round(long pages)
    {
        _rounds.Add(1);
        _pages.Add(pages);
    }

    internal void Broke() => _breaks.Add(1);
}
