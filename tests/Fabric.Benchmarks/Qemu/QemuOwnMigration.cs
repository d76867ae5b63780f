using System.Globalization;
using Fabric.Benchmarks.Compare;
using Fabric.Benchmarks.Lab;
using Fabric.Benchmarks.Moving;
using Fabric.Cli.Local;
using Fabric.Core;

namespace Fabric.Benchmarks.Qemu;

/// <summary>How QEMU's own migration is set up.</summary>
public enum QemuTuning
{
    /// <summary>As it comes.</summary>
    Defaults,

    /// <summary>No bandwidth cap; pre-copy with multifd, post-copy with its own connection for urgent pages (postcopy-preempt).</summary>
    Best,

    /// <summary>As <see cref="Best"/>, of a machine whose memory can be shared with other processes, as vhost-user, virtiofs and Fabric need it.</summary>
    BestOnShared,
}

/// <summary>
/// The other side of the comparison: plain QEMU processes, moved by QEMU itself over TCP, on the way that Fabric's pages travel: loopback, or each in its host's namespace of the laboratory.
/// </summary>
public sealed class QemuOwnMigration(QemuTuning tuning, int multifdChannels, LinkLab? lab, TimeProvider time) : IMover
{
    private static readonly TimeSpan BootDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan MeasureDeadline = TimeSpan.FromSeconds(20);

    public string Name => tuning switch
    {
        QemuTuning.Defaults => "qemu",
        QemuTuning.Best => "qemu-best",
        _ => "qemu-shared",
    };

    public string? Unavailable { get; } =
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, "qemu-system-x86_64")))
            ? null
            : "qemu-system-x86_64 is not installed: run deploy/install-prerequisites.sh";

    private bool Shared => tuning == QemuTuning.BestOnShared;

    /// <summary>QEMU does as it is told.</summary>
    public bool Knows(MoveMode mode) => mode != MoveMode.Auto;

    public async Task<MoveResult> MoveAsync(PlannedMove move, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(move);
        string directory = Directory.CreateTempSubdirectory("fq").FullName;
        try
        {
            using var warm = new WarmMemory(move.Guest.MemoryBytes);
            await using var source = await QemuProcess.StartAsync(move.Guest, "source", directory, Pair.Place(lab, Pair.Source).Enter, incoming: false, Shared, time, cancellation);
            await using var work = new WorkWatch([source.ConsoleLog, QemuProcess.ConsoleLogOf("destination", directory)], time);
            long lastBeat = await WaitForWorkloadAsync(source, cancellation);
            await work.SettledAsync(cancellation);
            warm.Dispose();

            // Starting the destination is part of a move, and takes of the same processors.
            var start = work.Now;
            var place = Pair.Place(lab, Pair.Destination);
            await using var destination = await QemuProcess.StartAsync(move.Guest, "destination", directory, place.Enter, incoming: true, Shared, time, cancellation);
            var result = await MeasureAsync(source, destination, place, move, lastBeat, cancellation);
            if (result.Failure is not null)
                return result;
            var lost = move.Window > TimeSpan.Zero ? await work.LostAsync(start, move.Window, cancellation) : null;
            return result.After(lost, GuestConsole.Read([source.ConsoleLog, destination.ConsoleLog]).IsClean);
        }
        catch (FabricException error)
        {
            return MoveResult.Failed(Name, move.Mode, error.Message);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private async Task<MoveResult> MeasureAsync(QemuProcess source, QemuProcess destination, MemberPlace place, PlannedMove move, long lastBeat, CancellationToken cancellation)
    {
        await ConfigureAsync(source, move.Mode, cancellation);
        await ConfigureAsync(destination, move.Mode, cancellation);
        await destination.ExecuteAsync("migrate-incoming", $$"""{"uri":"tcp:{{place.Address}}:0"}""", cancellation);
        int port = await PortAsync(destination, cancellation);

        // From here on the destination waits for the state.
        long begun = time.GetTimestamp();
        await source.ExecuteAsync("migrate", $$"""{"uri":"tcp:{{place.Address}}:{{port}}"}""", cancellation);
        try
        {
            using var deadline = new CancellationTokenSource(move.Within, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            if (await EndedAsync(source, destination, move.Mode, either.Token) is { } failure)
                return MoveResult.Failed(Name, move.Mode, failure);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            // Both processes are ended by their owner.
            return MoveResult.Endless(Name, move.Mode, move.Within);
        }

        long ended = Math.Max(Math.Max(source.MigrationEndedAt, destination.MigrationEndedAt), destination.ResumedAt);
        var statistics = await source.ExecuteAsync("query-migrate", null, cancellation);
        var ram = statistics.GetProperty("ram");
        var (seen, sound) = await GuestConsole.ViewAsync([source.ConsoleLog, destination.ConsoleLog], lastBeat, MeasureDeadline, time, cancellation);
        return new MoveResult(
            Name,
            move.Mode,
            time.GetElapsedTime(begun, ended).TotalMilliseconds,
            time.GetElapsedTime(source.StoppedAt, destination.ResumedAt).TotalMilliseconds,
            statistics.TryGetProperty("downtime", out var downtime) ? downtime.GetDouble() : null,
            seen?.StoppedMs,
            seen?.LargestGapMs,
            LostWorkMs: null,
            ram.GetProperty("transferred").GetInt64(),
            ram.GetProperty("dirty-sync-count").GetInt64(),
            Verified: null,
            sound);
    }

    private async Task ConfigureAsync(QemuProcess machine, MoveMode mode, CancellationToken cancellation)
    {
        List<string> capabilities = ["events"];
        List<string> parameters = [];
        if (mode == MoveMode.PostCopy)
            capabilities.Add("postcopy-ram");
        if (tuning != QemuTuning.Defaults)
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
    private static async Task<string?> EndedAsync(QemuProcess source, QemuProcess destination, MoveMode mode, CancellationToken cancellation)
    {
        if (mode == MoveMode.PostCopy)
        {
            await source.MigrationActive.Task.WaitAsync(cancellation);
            await source.ExecuteAsync("migrate-start-postcopy", null, cancellation);
        }

        string status = await source.MigrationEnded.Task.WaitAsync(cancellation);
        if (status != "completed")
            return $"QEMU's migration ended as '{status}'.";
        await destination.MigrationEnded.Task.WaitAsync(cancellation);
        await destination.Resumed.Task.WaitAsync(cancellation);
        return null;
    }

    /// <summary>Waits until the workload has laid out its memory and the guest knows the host's clock; returns its last beat.</summary>
    private async Task<long> WaitForWorkloadAsync(QemuProcess source, CancellationToken cancellation) =>
        await GuestConsole.WaitAsync([source.ConsoleLog], static log => log.IsWorkloadReady ? GuestConsole.SettledBeat(log) : null, BootDeadline, time, cancellation)
            ?? throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest was not ready within {BootDeadline.TotalSeconds:0} s.");
}
