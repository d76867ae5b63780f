using System.Globalization;
using Fabric.Benchmarks.Moving;
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

        string machine = BenchReport.Machine($"{options.Guest.Accelerator}");
        string guest = $"{ByteSize.Format(options.Guest.MemoryBytes)}, {options.Guest.Append}, verify {options.Verify}";
        return new SoakResult(machine, guest, options.Moves, time.GetElapsedTime(started).TotalSeconds, _checks, _samples);
    }

    private async Task PlayAsync(LocalCluster cluster, CancellationToken cancellation)
    {
        await cluster.StartAsync(cancellation);
        using var client = new ControlClient(cluster.ApiUrl);
        var guest = new MovingGuest(cluster, client, options.Guest, time);
        await guest.BootAsync(cancellation);
        int folders = MemoryFolders(cluster);
        for (int move = 0; move < options.Moves; move++)
        {
            var report = await guest.MoveAsync(new MigrationOptions(options.ModeOf(move), Verify: options.Verify, Reason: "soak"), cancellation);
            var sample = new SoakSample(move + 1, guest.Home, report, Footprints(cluster), MemoryFolders(cluster), guest.Record.Log.Beats.Count);
            _samples.Add(sample);
            say(Line(sample));
        }

        await guest.CheckedAsync(cancellation);
        Judge(guest.Record, folders);
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
