// What the kernel knows of one VM, without asking any agent: its QEMU processes, their memory files, and what the guest wrote to the
// serial line of each host (the guest writes a letter after each pass over its memory; QEMU alone writes that file).
using System.Globalization;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Native;

namespace Fabric.Chaos.Cluster;

/// <summary>A QEMU process of the VM and the host whose directories its command line names.</summary>
internal sealed record SeenMachine(string Host, ProcessIdentity Process, string Ram);

internal sealed class Outside(LocalCluster cluster, VmName vm)
{
    internal const int RangeEnd = 0x0200_0000;

    private string Prefix => Path.Combine(cluster.Record.MemoryDirectory, cluster.Record.MemoryPrefix);

    internal IReadOnlyList<SeenMachine> Machines()
    {
        var found = new List<SeenMachine>();
        foreach (var process in LeftOvers.Machines(cluster.Directory, cluster.Record.MemoryDirectory, cluster.Record.MemoryPrefix))
        {
            string command = LeftOvers.CommandLine(process.ProcessId);
            foreach (string host in cluster.Hosts)
            {
                string folder = $"{Prefix}{host}/fabric-{vm}-";
                int at = command.IndexOf(folder, StringComparison.Ordinal);
                if (at >= 0)
                    found.Add(new SeenMachine(host, process, command[at..command.IndexOf("/ram", at, StringComparison.Ordinal)] + "/ram"));
            }
        }

        return found;
    }

    /// <summary>Bytes that the guest has written to the serial line while it ran on a host.</summary>
    internal long Written(string host)
    {
        var log = new FileInfo(Path.Combine(cluster.StateOf(host), "console", $"{vm}.log"));
        return log.Exists ? log.Length : 0;
    }

    /// <summary>Waits until the guest has written more at a host than it had.</summary>
    internal Task GrowsAsync(string host, string what, TimeSpan within, CancellationToken cancellation)
    {
        long before = Written(host);
        return Patience.UntilAsync(what, within, () => Task.FromResult(Written(host) > before + 1 ? null : $"The guest writes nothing at {host}."), cancellation);
    }

    /// <summary>Everything in the hosts' memory directories, of whatever VM or migration.</summary>
    internal IReadOnlyList<string> MemoryEntries() =>
        [.. LeftOvers.MemoryFiles(cluster.Record.MemoryDirectory, cluster.Record.MemoryPrefix).Where(Directory.Exists).SelectMany(Directory.EnumerateFileSystemEntries)];

    /// <summary>
    /// Freezes the process, reads the guest's own oracle from its memory file, and lets it go on. Null: at most one step, nothing lost, stale or torn.
    /// </summary>
    internal static async Task<string?> OracleAsync(SeenMachine machine, CancellationToken cancellation)
    {
        using var process = ProcessHandle.TryOpen(machine.Process);
        if (process is null)
            return $"QEMU process {machine.Process.ProcessId} is gone";
        process.SendStop();
        try
        {
            while (!Stands(machine.Process.ProcessId))
                await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, cancellation);
            return BootBlock.Violation(Values(machine.Ram));
        }
        finally
        {
            process.SendContinue();
        }
    }

    /// <summary>
    /// Whether the guest gets anywhere: the kernel counts what its processors' threads have run, and the guest, which rests until the next hundredth of a second at most, uses several
    /// milliseconds of this window. QEMU's other threads do not count: a machine that stands answers its agent all the same.
    /// </summary>
    internal static async Task<bool> ComputesAsync(SeenMachine machine, CancellationToken cancellation)
    {
        var before = ProcessorsRan(machine.Process.ProcessId);
        await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, cancellation);
        return ProcessorsRan(machine.Process.ProcessId) - before > TimeSpan.FromMilliseconds(1);
    }

    private static byte[] Values(string ram)
    {
        using var file = File.OpenHandle(ram, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        byte[] values = new byte[(RangeEnd - BootBlock.RangeStart) / BootBlock.PageSize];
        for (int i = 0; i < values.Length; i++)
            RandomAccess.Read(file, values.AsSpan(i, 1), BootBlock.RangeStart + ((long)i * BootBlock.PageSize));
        return values;
    }

    /// <summary>Every thread is stopped.</summary>
    internal static bool Stands(int pid) => Threads(pid).All(static state => state == 'T');

    /// <summary>Of the guest's processors together, since they were made. Zero when the process is gone.</summary>
    private static TimeSpan ProcessorsRan(int pid) => new(Tasks(pid).Where(static task => Read(task, "comm").StartsWith("CPU ", StringComparison.Ordinal))
        .Sum(static task => long.TryParse(Read(task, "schedstat").Split(' ')[0], NumberStyles.None, CultureInfo.InvariantCulture, out long nanoseconds) ? nanoseconds / TimeSpan.NanosecondsPerTick : 0));

    /// <summary>The state of each thread: R computes, S waits, T stopped. Empty when the process is gone.</summary>
    private static List<char> Threads(int pid) => [.. Tasks(pid).Select(static task => Read(task, "stat")).Where(static stat => stat.Length > 0).Select(static stat => stat[stat.LastIndexOf(')') + 2])];

    private static string[] Tasks(int pid)
    {
        try
        {
            return Directory.GetDirectories($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}/task");
        }
        catch (IOException)
        {
            return []; // it ended between two looks
        }
    }

    private static string Read(string task, string file)
    {
        try
        {
            return File.ReadAllText(Path.Combine(task, file));
        }
        catch (IOException)
        {
            return ""; // as above
        }
    }
}
