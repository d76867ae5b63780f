using System.Globalization;
using Fabric.Benchmarks.Moving;
using Fabric.Cli.Local;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Paper;

/// <summary>
/// A guest moved by pre-copy and by post-copy, with and without its free memory, in turn. Once a balloon has taken what was free, a guest has nothing more to take: one that is to show what a balloon saves is
/// booted afresh for each move.
/// </summary>
internal sealed class MoveTable(LocalCluster cluster, ControlClient client, Action<string> say)
{
    private static readonly (MigrationMode Mode, BalloonUse Balloon)[] Ways =
    [
        (MigrationMode.PreCopy, BalloonUse.Off), (MigrationMode.PreCopy, BalloonUse.Auto), (MigrationMode.PostCopy, BalloonUse.Off), (MigrationMode.PostCopy, BalloonUse.Auto),
    ];

    /// <param name="workload">For the table.</param>
    /// <param name="spec">Its guest.</param>
    /// <param name="afresh">A guest of its own for each move.</param>
    /// <param name="runs">Moves each way.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="FabricException">corrupt: the guest complains; or a move failed.</exception>
    public async Task<IReadOnlyList<MoveRow>> MeasureAsync(string workload, VmSpec spec, bool afresh, int runs, CancellationToken cancellation)
    {
        var moves = Ways.ToDictionary(static w => w, static _ => new List<MigrationReport>());
        List<(MigrationMode Mode, BalloonUse Balloon)> turns = [.. Enumerable.Range(0, runs * Ways.Length).Select(i => Ways[(i + (i / Ways.Length)) % Ways.Length])];
        int guests = 0;
        foreach (var part in afresh ? turns.Chunk(1) : turns.Chunk(turns.Count))
        {
            var guest = new MovingGuest(cluster, client, spec with { Name = VmName.Parse(string.Create(CultureInfo.InvariantCulture, $"{workload}-{++guests}")) }, TimeProvider.System);
            await guest.BootAsync(cancellation);
            try
            {
                foreach (var way in part)
                {
                    var report = await guest.MoveAsync(new MigrationOptions(way.Mode, Balloon: way.Balloon, Reason: "paper"), cancellation);
                    moves[way].Add(report);
                    say(Line(workload, way.Balloon, report));
                }

                await guest.CheckedAsync(cancellation);
                if (guest.Record.Complaint() is { } complaint)
                    throw new FabricException(ErrorCodes.Corrupt, $"The guest complains: {complaint}.");
            }
            finally
            {
                await guest.EndAsync(CancellationToken.None);
            }
        }

        return [.. Ways.Select(w => MoveRow.Of(workload, w.Mode, w.Balloon, moves[w]))];
    }

    private static string Line(string workload, BalloonUse balloon, MigrationReport report) => string.Create(
        CultureInfo.InvariantCulture,
        $"{workload,-16} {Words.Name(report.Mode),-10} balloon {Words.Name(balloon),-5} total {report.TotalMs,7:0} ms  downtime {report.DowntimeMs,6:0.0} ms  pages {report.Memory.PagesSent,7}  {ByteSize.Format(report.Memory.WireBytes),9}");
}
