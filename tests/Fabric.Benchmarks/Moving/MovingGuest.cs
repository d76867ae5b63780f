using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Moving;

/// <summary>
/// One guest that is moved back and forth between the first two hosts of a local cluster, as an operator would: through the API. After each move it must have spoken at its new home, and whatever it
/// says is read for errors. One user at a time.
/// </summary>
public sealed class MovingGuest(LocalCluster cluster, ControlClient client, VmSpec spec, TimeProvider time)
{
    private static readonly TimeSpan BootWithin = TimeSpan.FromSeconds(180);
    private static readonly TimeSpan MoveWithin = TimeSpan.FromSeconds(180);
    private static readonly TimeSpan SpeakWithin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(50);

    private readonly HostName[] _hosts = [.. cluster.Hosts.Take(2).Select(HostName.Parse)];

    /// <summary>All that it has said.</summary>
    public GuestRecord Record { get; } = new(cluster, spec.Name);

    public int Moves { get; private set; }

    public HostName Home => _hosts[Moves % 2];

    /// <summary>Returns when its workload has laid out its memory and has checked it once.</summary>
    /// <exception cref="FabricException">deadline-exceeded; corrupt; or what the API refuses.</exception>
    public async Task BootAsync(CancellationToken cancellation)
    {
        await client.CreateVmAsync(new CreateVmRequest(spec, _hosts[0]), cancellation);
        await SpeaksAsync(() => Record.Log is { IsWorkloadReady: true, OkCount: > 0 }, "come up", BootWithin, cancellation);
    }

    /// <summary>To the other host; returns when it has beaten twice there.</summary>
    /// <exception cref="FabricException">machine-failed: the migration did not complete; deadline-exceeded; corrupt.</exception>
    public async Task<MigrationReport> MoveAsync(MigrationOptions how, CancellationToken cancellation)
    {
        var from = Home;
        var request = new MigrateRequest(spec.Name, _hosts[(Moves + 1) % 2], how, null);
        var report = Moving.Moves.Completed(await Moving.Moves.EndedAsync(client, request, MoveWithin, time, cancellation), $"Move {Moves + 1} ({how.Mode})");
        Record.ReadFrom(from);
        Moves++;
        int beats = Record.Log.Beats.Count;
        await SpeaksAsync(() => Record.Log.Beats.Count >= beats + 2, $"speak at {Home} after move {Moves}", SpeakWithin, cancellation);
        return report;
    }

    /// <summary>Its checker has gone over all of its memory once more than before.</summary>
    public Task CheckedAsync(CancellationToken cancellation)
    {
        Record.ReadFrom(Home);
        long sweeps = Record.Log.OkCount;
        return SpeaksAsync(() => Record.Log.OkCount >= sweeps + 2, $"check its memory after move {Moves}", SpeakWithin, cancellation);
    }

    public Task EndAsync(CancellationToken cancellation) => client.DeleteVmAsync(spec.Name, force: true, cancellation);

    private async Task SpeaksAsync(Func<bool> condition, string what, TimeSpan within, CancellationToken cancellation)
    {
        for (long started = time.GetTimestamp(); ; await Task.Delay(Period, time, cancellation))
        {
            Record.ReadFrom(Home);
            if (Record.Log is { IsClean: false })
                throw new FabricException(ErrorCodes.Corrupt, $"The guest found an error when it was to {what}: {Record.Complaint()}.");
            if (condition())
                return;
            if (time.GetElapsedTime(started) > within)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest did not {what} within {within.TotalSeconds:0} s.", $"Beats: {Record.Log.Beats.Count}, sweeps: {Record.Log.OkCount}.");
        }
    }
}
