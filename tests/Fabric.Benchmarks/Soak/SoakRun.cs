using System.Globalization;
using Fabric.Cli;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Soak;

/// <summary>
/// One guest moved back and forth between the two hosts of a local cluster: real daemons, the operators' API, real QEMU. After each move
/// the guest must speak, and what every daemon holds is written down. The clean-up runs whatever happened and is itself checked.
/// </summary>
public sealed class SoakRun(SoakOptions options, TimeProvider time, Random random, Action<string> say)
{
    private static readonly TimeSpan BootWithin = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan MoveWithin = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan SpeakWithin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(50);

    private readonly List<SoakSample> _samples = [];
    private readonly List<SoakCheck> _checks = [];

    public async Task<SoakResult> RunAsync(CancellationToken cancellation)
    {
        long started = time.GetTimestamp();
        string directory = Directory.CreateTempSubdirectory("fsoak-").FullName;
        var cluster = LocalCluster.Create(
            new LocalClusterOptions { Directory = directory, Daemon = options.Daemon, Hosts = 2, Ephemeral = true }, time, random);
        try
        {
            await PlayAsync(cluster, cancellation);
        }
        catch (FabricException failed)
        {
            Check("no failure", false, failed.Error.ToString());
            foreach (var member in cluster.Record.Members)
                say($"The end of the log of {member.Name}:\n{cluster.LogTail(member.Name)}");
        }
        finally
        {
            var left = await cluster.DownAsync(_ => { }, CancellationToken.None);
            Check("nothing is left", left.Count == 0 && !Directory.Exists(directory), left.Count == 0 ? "no process, port, memory file or directory" : string.Join(", ", left));
        }

        string machine = $"{Environment.ProcessorCount} processors, Linux {Environment.OSVersion.Version}, accelerator {options.Guest.Accelerator}";
        string guest = $"{ByteSize.Format(options.Guest.MemoryBytes)}, {options.Guest.Append}, verify {options.Verify}";
        return new SoakResult(machine, guest, options.Moves, time.GetElapsedTime(started).TotalSeconds, _checks, _samples);
    }

    private async Task PlayAsync(LocalCluster cluster, CancellationToken cancellation)
    {
        await cluster.StartAsync(cancellation);
        using var client = new ControlClient(cluster.ApiUrl);
        HostName[] hosts = [.. cluster.Hosts.Select(HostName.Parse)];
        var record = new GuestRecord(cluster, options.Guest.Name);
        await client.CreateVmAsync(new CreateVmRequest(options.Guest, hosts[0]), cancellation);
        await SpeaksAsync(record, hosts[0], () => record.Log is { IsWorkloadReady: true, OkCount: > 0 }, "come up", BootWithin, cancellation);
        int folders = MemoryFolders(cluster);
        for (int move = 0; move < options.Moves; move++)
        {
            var (from, to) = (hosts[move % 2], hosts[(move + 1) % 2]);
            var report = await MoveAsync(client, to, options.ModeOf(move), cancellation);
            record.ReadFrom(from);
            int beats = record.Log.Beats.Count;
            await SpeaksAsync(record, to, () => record.Log.Beats.Count >= beats + 2, $"speak at {to} after move {move + 1}", SpeakWithin, cancellation);
            var sample = new SoakSample(move + 1, to, report, Footprints(cluster), MemoryFolders(cluster), record.Log.Beats.Count);
            _samples.Add(sample);
            say(Line(sample));
        }

        // The checker inside has gone over all of its memory once more after the last move.
        long sweeps = record.Log.OkCount;
        await SpeaksAsync(record, hosts[options.Moves % 2], () => record.Log.OkCount >= sweeps + 2, "check its memory after the last move", SpeakWithin, cancellation);
        Judge(record, folders);
    }

    private async Task<MigrationReport> MoveAsync(ControlClient client, HostName to, MigrationMode mode, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(MoveWithin, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        var request = new MigrateRequest(options.Guest.Name, to, new MigrationOptions(mode, Verify: options.Verify, Reason: "soak"), null);
        var report = await client.MigrateAsync(request, either.Token);
        try
        {
            for (long version = 0; !MigrationStates.IsFinal(report);)
            {
                version = await client.WaitChangeAsync(version, TimeSpan.FromMilliseconds(500), either.Token);
                report = await client.MigrationAsync(report.Id.ToString(), either.Token);
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"Migration {report.Id} was still {report.State} after {MoveWithin.TotalSeconds:0} s.");
        }

        return report.State == MigrationStates.Completed
            ? report
            : throw new FabricException(ErrorCodes.MachineFailed, $"Move {_samples.Count + 1} ({mode}) ended as {report.State}: {report.Error?.Message.TrimEnd('.') ?? "no error given"}.");
    }

    private async Task SpeaksAsync(GuestRecord record, HostName host, Func<bool> condition, string what, TimeSpan within, CancellationToken cancellation)
    {
        long started = time.GetTimestamp();
        for (; ; await Task.Delay(Period, time, cancellation))
        {
            record.ReadFrom(host);
            if (record.Log is { IsClean: false })
                throw new FabricException(ErrorCodes.Corrupt, $"The guest found an error when it was to {what}: {record.Complaint()}.");
            if (condition())
                return;
            if (time.GetElapsedTime(started) > within)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest did not {what} within {within.TotalSeconds:0} s.", $"Beats: {record.Log.Beats.Count}, sweeps: {record.Log.OkCount}.");
        }
    }

    private void Judge(GuestRecord record, int folders)
    {
        int verified = _samples.Count(s => s.Report.Verified == true && s.Report.Verify == options.Verify);
        Check("every move completed and is verified", verified == options.Moves, $"{verified} of {options.Moves} at level {options.Verify}");
        Check(
            "the guest found no error", record.Complaint() is null,
            record.Complaint() ?? $"{record.Log.Beats.Count} beats in unbroken order, {record.Log.OkCount} sweeps of its memory");
        int most = _samples.Max(s => s.MemoryFolders);
        Check("as many memory folders after each move as before", most == folders && _samples.Min(s => s.MemoryFolders) == folders, $"{folders} before, at most {most} after a move");
        _checks.AddRange(LeakCheck.Of(_samples));
    }

    private static List<ProcessFootprint> Footprints(LocalCluster cluster) =>
        [.. cluster.Record.Members.Select(m => ProcessFootprint.Of(m.Name, cluster.ProcessOf(m.Name)?.ProcessId
            ?? throw new FabricException(ErrorCodes.Lost, $"fabricd of '{m.Name}' has ended.", cluster.LogTail(m.Name))))];

    /// <summary>One for each machine that exists: folders of RAM below the hosts' memory directories.</summary>
    private static int MemoryFolders(LocalCluster cluster) =>
        LeftOvers.MemoryFiles(cluster.Record.MemoryDirectory, cluster.Record.MemoryPrefix).Where(Directory.Exists)
            .Sum(d => Directory.GetFileSystemEntries(d).Length);

    private void Check(string name, bool ok, string detail) => _checks.Add(new SoakCheck(name, ok, detail));

    private static string Line(SoakSample sample)
    {
        var report = sample.Report;
        string held = string.Join("  ", sample.Processes.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Member} {p.OwnBytes / ByteSize.Mebi}M {p.Descriptors}fd {p.Threads}th")));
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{sample.Move,3} {report.Mode,-8} → {sample.Holder,-5} total {report.TotalMs,7:0} ms  downtime {report.DowntimeMs,6:0.0} ms  {ByteSize.Format(report.Memory.WireBytes),9}  faults {report.Faults.Network,6}  verified {report.Verified}  {held}");
    }
}
