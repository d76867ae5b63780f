using Fabric.Cli;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Moving;

/// <summary>Migrations that are asked for and waited for, through the operators' API.</summary>
internal static class Moves
{
    // Times are taken from records, so it may be long. Looking at each change would be work for the same processors, in the middle of what is measured.
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(200);

    /// <summary>Asks, and returns when nothing more happens by itself, however it ended.</summary>
    /// <exception cref="FabricException">deadline-exceeded; or what the API refuses.</exception>
    internal static async Task<MigrationReport> EndedAsync(ControlClient client, MigrateRequest request, TimeSpan within, TimeProvider time, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(within, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        var report = await client.MigrateAsync(request, either.Token);
        try
        {
            while (!MigrationStates.IsFinal(report))
            {
                await Task.Delay(Look, time, either.Token);
                report = await client.MigrationAsync(report.Id.ToString(), either.Token);
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"Migration {report.Id} was still {report.State} after {within.TotalSeconds:0} s.");
        }

        return report;
    }

    /// <summary>A migration that has ended, if it completed.</summary>
    /// <param name="report">Its record.</param>
    /// <param name="what">The move, for the error.</param>
    /// <exception cref="FabricException">machine-failed: it ended otherwise.</exception>
    internal static MigrationReport Completed(MigrationReport report, string what) => report.State == MigrationStates.Completed
        ? report
        : throw new FabricException(ErrorCodes.MachineFailed, $"{what} ended as {report.State}: {report.Error?.Message.TrimEnd('.') ?? "no error given"}.");
}
