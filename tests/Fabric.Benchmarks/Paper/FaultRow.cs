using Fabric.Benchmarks.Compare;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Paper;

/// <summary>
/// What the post-copies of one guest cost under one page order: medians with spread. Network: pages that the guest touched first and that had to be asked for. Minor: pages that were on their way when
/// it touched them, and holes. What had arrived before the guest touched it faults nowhere.
/// </summary>
/// <param name="WorkingSetPages">Pages that the workload goes over.</param>
public sealed record FaultRow(
    int Mebibytes, PageOrder Order, long WorkingSetPages, Statistics Network, Statistics Minor, Statistics StallMs, Statistics FaultMedianUs, Statistics ServiceMedianUs, Statistics TotalMs, Statistics DowntimeMs, Statistics PagesSent)
{
    /// <summary>Network faults as a share of the pages of the working set, each of which the guest touches for the first time once: percent.</summary>
    public double SharePercent => 100 * Network.Median / WorkingSetPages;

    public static FaultRow Of(int mebibytes, PageOrder order, IReadOnlyList<MigrationReport> moves)
    {
        return new FaultRow(
            mebibytes, order, mebibytes * 256L, Take(static m => m.Faults.Network), Take(static m => m.Faults.Minor), Take(static m => m.Faults.StallMs), Take(static m => m.Faults.MedianUs), Take(static m => m.Faults.ServiceMedianUs),
            Take(static m => m.TotalMs), Take(static m => m.DowntimeMs), Take(static m => m.Memory.PagesSent));

        Statistics Take(Func<MigrationReport, double?> number) => Statistics.Of(moves.Select(number).OfType<double>()) ?? new Statistics(0, 0, 0, 0, 0, 0);
    }
}
