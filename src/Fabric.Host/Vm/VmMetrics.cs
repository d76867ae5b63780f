using System.Diagnostics.Metrics;

namespace Fabric.Host.Vm;

/// <summary>Counters of what happened to VMs on this host; no VM's name on any of them.</summary>
public sealed class VmMetrics(Meter meter)
{
    private readonly Counter<long> _fenced = meter.CreateCounter<long>("fabric_fenced_commands_total", description: "Commands refused because a higher epoch was seen.");
    private readonly Counter<long> _handOvers = meter.CreateCounter<long>("fabric_hand_overs_total", description: "Switch-overs by outcome, at the source.");
    private readonly Histogram<double> _downtime = meter.CreateHistogram<double>("fabric_migration_downtime_seconds", "s", "Guest stopped to guest running elsewhere, as the source measured it.");

    internal void Fenced() => _fenced.Add(1);

    internal void HandedOver(string outcome, TimeSpan? downtime)
    {
        _handOvers.Add(1, new KeyValuePair<string, object?>("outcome", outcome));
        if (downtime is { } measured)
            _downtime.Record(measured.TotalSeconds);
    }
}
