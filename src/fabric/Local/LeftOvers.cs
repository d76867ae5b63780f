using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Fabric.Native;

namespace Fabric.Cli.Local;

/// <summary>
/// Asks the kernel, not the daemons, what a cluster still has on this machine: processes that name its directory or its memory files,
/// memory files, ports. Used to end what is left and to prove that nothing is.
/// </summary>
public static class LeftOvers
{
    /// <summary>Hypervisors whose command line names the cluster's directory or memory files. Nothing else is ever taken for the cluster's.</summary>
    public static IReadOnlyList<ProcessIdentity> Machines(string directory, string memoryDirectory, string memoryPrefix)
    {
        string inDirectory = directory.TrimEnd('/') + "/";
        string inMemory = Path.Combine(memoryDirectory, memoryPrefix);
        return Processes(words =>
            Path.GetFileName(words[0]).StartsWith("qemu-", StringComparison.Ordinal)
            && words.Any(word => word.Contains(inDirectory, StringComparison.Ordinal) || word.Contains(inMemory, StringComparison.Ordinal)));
    }

    /// <summary>Processes that live now and whose command line is as asked; it is given the words, at least one.</summary>
    public static IReadOnlyList<ProcessIdentity> Processes(Func<IReadOnlyList<string>, bool> wanted)
    {
        ArgumentNullException.ThrowIfNull(wanted);
        var found = new List<ProcessIdentity>();
        foreach (string entry in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(entry), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)
                && wanted(CommandLine(pid).Split('\0')) && ProcessIdentity.Of(pid) is { } identity)
            {
                found.Add(identity);
            }
        }

        return found;
    }

    /// <summary>Files that guests' memory lived in.</summary>
    public static IReadOnlyList<string> MemoryFiles(string memoryDirectory, string memoryPrefix) =>
        Directory.Exists(memoryDirectory) ? Directory.GetFileSystemEntries(memoryDirectory, memoryPrefix + "*") : [];

    /// <summary>True when something listens there.</summary>
    public static async Task<bool> ListensAsync(string address, int port, TimeProvider time)
    {
        if (!IPAddress.TryParse(address.Trim('[', ']'), out var ip))
            return false;
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(1), time);
        using var socket = new Socket(ip.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            await socket.ConnectAsync(new IPEndPoint(ip, port), deadline.Token);
            return true;
        }
        catch (Exception nobody) when (nobody is SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>The words of a process's command line, each ended by a zero character; empty when it is gone.</summary>
    public static string CommandLine(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}/cmdline");
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
