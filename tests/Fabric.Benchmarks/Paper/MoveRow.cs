using Fabric.Benchmarks.Compare;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Paper;

/// <summary>What it took to move a guest of one workload in one mode, with or without a balloon: medians with spread.</summary>
public sealed record MoveRow(string Workload, MigrationMode Mode, BalloonUse Balloon, Statistics PagesSent, Statistics WireBytes, Statistics TotalMs, Statistics DowntimeMs)
{
    public static MoveRow Of(string workload, MigrationMode mode, BalloonUse balloon, IReadOnlyList<MigrationReport> moves)
    {
        return new MoveRow(workload, mode, balloon, Take(static m => m.Memory.PagesSent), Take(static m => m.Memory.WireBytes), Take(static m => m.TotalMs), Take(static m => m.DowntimeMs));

        Statistics Take(Func<MigrationReport, double?> number) => Statistics.Of(moves.Select(number).OfType<double>()) ?? new Statistics(0, 0, 0, 0, 0, 0);
    }
}
