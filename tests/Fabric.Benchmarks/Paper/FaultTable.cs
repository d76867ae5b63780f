using System.Globalization;
using Fabric.Benchmarks.Moving;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Paper;

/// <summary>
/// One guest, moved by post-copy under each page order in turn, over the laboratory's link. The orders alternate and each round begins with another one, so that a machine that gets slower favours
/// none; before each move the guest has gone over all of its memory again.
/// </summary>
internal sealed class FaultTable(LocalCluster cluster, ControlClient client, Action<string> say)
{
    public async Task<IReadOnlyList<FaultRow>> MeasureAsync(VmSpec spec, int mebibytes, IReadOnlyList<PageOrder> orders, int runs, CancellationToken cancellation)
    {
        var guest = new MovingGuest(cluster, client, spec, TimeProvider.System);
        var moves = orders.ToDictionary(static o => o, static _ => new List<MigrationReport>());
        await guest.BootAsync(cancellation);
        try
        {
            for (int run = 0; run < runs; run++)
            {
                for (int i = 0; i < orders.Count; i++)
                {
                    var order = orders[(i + run) % orders.Count];
                    await guest.CheckedAsync(cancellation);
                    var report = await guest.MoveAsync(new MigrationOptions(MigrationMode.PostCopy, Order: order, Reason: "paper"), cancellation);
                    moves[order].Add(report);
                    say(Line(spec, order, report));
                }
            }

            await guest.CheckedAsync(cancellation);
            if (guest.Record.Complaint() is { } complaint)
                throw new FabricException(ErrorCodes.Corrupt, $"The guest complains: {complaint}.");
        }
        finally
        {
            await guest.EndAsync(CancellationToken.None);
        }

        return [.. orders.Select(o => FaultRow.Of(mebibytes, o, moves[o]))];
    }

    private static string Line(VmSpec spec, PageOrder order, MigrationReport report) => string.Create(
        CultureInfo.InvariantCulture,
        $"{spec.Name,-16} {PaperOrders.NameOf(order),-23} total {report.TotalMs,7:0} ms  downtime {report.DowntimeMs,6:0.0} ms  network {report.Faults.Network,6}  minor {report.Faults.Minor,6}  stall {report.Faults.StallMs,7:0} ms  pages {report.Memory.PagesSent,7}");
}
