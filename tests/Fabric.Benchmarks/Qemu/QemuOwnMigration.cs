using System.Globalization;
using Fabric.Benchmarks.Compare;
using Fabric.Core;

namespace Fabric.Benchmarks.Qemu;

/// <summary>How QEMU's own migration is set up.</summary>
public enum QemuTuning
{
    /// <summary>As it comes.</summary>
    Defaults,

    /// <summary>No bandwidth cap; pre-copy with multifd, post-copy with its own connection for urgent pages (postcopy-preempt).</summary>
    Best,
}

/// <summary>
/// The other side of the comparison: plain QEMU processes, moved by QEMU itself over loopback TCP, as Fabric's pages travel.
/// </summary>
public sealed class QemuOwnMigration(QemuTuning tuning, int multifdChannels, TimeProvider time) : IMover
{
    private static readonly TimeSpan BootDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan MoveDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan MeasureDeadline = TimeSpan.FromSeconds(20);

    public string Name => tuning == QemuTuning.Defaults ? "qemu" : "qemu-best";

    public string? Unavailable { get; } =
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, "qemu-system-x86_64")))
            ? null
            : "qemu-system-x86_64 is not installed: run deploy/install-prerequisites.sh";

    public async Task<MoveResult> MoveAsync(GuestImage guest, MoveMode mode, CancellationToken cancellation)
    {
        string directory = Directory.CreateTempSubdirectory("fq").FullName;
        try
        {
            await using var source = await QemuProcess.StartAsync(guest, "source", directory, incoming: false, time, cancellation);
            long lastBeat = await WaitForWorkloadAsync(source, guest, cancellation);
            await using var destination = await QemuProcess.StartAsync(guest, "destination", directory, incoming: true, time, cancellation);
            return await MeasureAsync(source, destination, mode, lastBeat, cancellation);
        }
        catch (FabricException error)
        {
            return MoveResult.Failed(Name, mode, error.Message);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private async Task<MoveResult> MeasureAsync(QemuProcess source, QemuProcess destination, MoveMode mode, long lastBeat, CancellationToken cancellation)
    {
        await ConfigureAsync(source, mode, cancellation);
        await ConfigureAsync(destination, mode, cancellation);
        await destination.ExecuteAsync("migrate-incoming", """{"uri":"tcp:127.0.0.1:0"}""", cancellation);
        int port = await PortAsync(destination, cancellation);

        // From here on the destination waits for the state.
        long begun = time.GetTimestamp();
        await source.ExecuteAsync("migrate", $$"""{"uri":"tcp:127.0.0.1:{{port}}"}""", cancellation);
        if (mode == MoveMode.PostCopy)
        {
            await source.MigrationActive.Task.WaitAsync(MoveDeadline, time, cancellation);
            await source.ExecuteAsync("migrate-start-postcopy", null, cancellation);
        }

        string? failure = await EndedAsync(source, destination, cancellation);
        if (failure is not null)
            return MoveResult.Failed(Name, mode, failure);
        long ended = Math.Max(Math.Max(source.MigrationEndedAt, destination.MigrationEndedAt), destination.ResumedAt);
        var statistics = await source.ExecuteAsync("query-migrate", null, cancellation);
        var ram = statistics.GetProperty("ram");
        var (seen, clean) = await GuestConsole.ViewAsync([source.ConsoleLog, destination.ConsoleLog], lastBeat, MeasureDeadline, time, cancellation);
        return new MoveResult(
            Name,
            mode,
            time.GetElapsedTime(begun, ended).TotalMilliseconds,
            time.GetElapsedTime(source.StoppedAt, destination.ResumedAt).TotalMilliseconds,
            statistics.TryGetProperty("downtime", out var downtime) ? downtime.GetDouble() : null,
            seen?.StoppedMs,
            seen?.LargestGapMs,
            ram.GetProperty("transferred").GetInt64(),
            ram.GetProperty("dirty-sync-count").GetInt64(),
            Verified: null,
            clean);
    }

    private async Task ConfigureAsync(QemuProcess machine, MoveMode mode, CancellationToken cancellation)
    {
        List<string> capabilities = ["events"];
        List<string> parameters = [];
        if (mode == MoveMode.PostCopy)
            capabilities.Add("postcopy-ram");
        if (tuning == QemuTuning.Best)
        {
            parameters.Add("\"max-bandwidth\":0");
            if (mode == MoveMode.PostCopy)
            {
                capabilities.Add("postcopy-preempt");
            }
            else
            {
                capabilities.Add("multifd");
                parameters.Add(string.Create(CultureInfo.InvariantCulture, $"\"multifd-channels\":{multifdChannels}"));
            }
        }

        string list = string.Join(',', capabilities.Select(c => $$"""{"capability":"{{c}}","state":true}"""));
        await machine.ExecuteAsync("migrate-set-capabilities", $$"""{"capabilities":[{{list}}]}""", cancellation);
        if (parameters.Count > 0)
            await machine.ExecuteAsync("migrate-set-parameters", "{" + string.Join(',', parameters) + "}", cancellation);
    }

    private static async Task<int> PortAsync(QemuProcess destination, CancellationToken cancellation)
    {
        var state = await destination.ExecuteAsync("query-migrate", null, cancellation);
        return int.Parse(state.GetProperty("socket-address")[0].GetProperty("port").GetString()!, CultureInfo.InvariantCulture);
    }

    /// <summary>Null when both ends are done and the guest runs at the destination; else what happened instead.</summary>
    private async Task<string?> EndedAsync(QemuProcess source, QemuProcess destination, CancellationToken cancellation)
    {
        try
        {
            string status = await source.MigrationEnded.Task.WaitAsync(MoveDeadline, time, cancellation);
            if (status != "completed")
                return $"QEMU's migration ended as '{status}'.";
            await destination.MigrationEnded.Task.WaitAsync(MoveDeadline, time, cancellation);
            await destination.Resumed.Task.WaitAsync(MoveDeadline, time, cancellation);
            return null;
        }
        catch (TimeoutException)
        {
            return $"QEMU's migration did not converge within {MoveDeadline.TotalSeconds:0} s.";
        }
    }

    /// <summary>Waits until the workload has laid out its memory and the guest knows the host's clock; returns its last beat.</summary>
    private async Task<long> WaitForWorkloadAsync(QemuProcess source, GuestImage guest, CancellationToken cancellation)
    {
        bool idle = !guest.Append.Contains("fabric.workload=", StringComparison.Ordinal) || guest.Append.Contains("=idle", StringComparison.Ordinal);
        return await GuestConsole.WaitAsync(
            [source.ConsoleLog],
            log => idle || log.IsWorkloadReady ? GuestConsole.SettledBeat(log) : null,
            BootDeadline,
            time,
            cancellation) ?? throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest was not ready within {BootDeadline.TotalSeconds:0} s.");
    }
}
