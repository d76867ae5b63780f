using System.Text;
using Fabric.Core;
using Fabric.Native;
using Microsoft.Extensions.Logging;

namespace Fabric.Machines.Qemu;

/// <summary>What an agent left that died between starting a machine and recording it.</summary>
public sealed partial class QemuMachineFactory
{
    private const int CommandLineBytesMost = 128 * 1024;

    /// <remarks>
    /// A machine is this factory's if its QMP socket lies below the factory's directory: no other agent has that. Folders without a process are
    /// removed too, unless a record names them (adoption removes those).
    /// </remarks>
    public async ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(adoptionRecords);
        if (!Directory.Exists(_options.Directory))
            return;
        var known = adoptionRecords.Select(Known).OfType<string>().ToHashSet(StringComparer.Ordinal);
        foreach (string folder in Directory.EnumerateDirectories(_options.Directory).Where(f => !known.Contains(f)))
        {
            var files = new MachineFiles(folder, Path.Combine(_options.MemoryDirectory, "fabric-" + Path.GetFileName(folder)), Path.Combine(folder, "console.log"));
            foreach (int process in ProcessesOf(files))
                await EndAsync(process, cancellation);
            files.Remove();
            LogSwept(folder);
        }
    }

    /// <summary>The folder that a record names; another kind of machine's record, or a damaged one, names none of ours.</summary>
    private static string? Known(string adoptionRecord)
    {
        try
        {
            return Qemu.AdoptionRecord.Parse(adoptionRecord).Files.Directory;
        }
        catch (FabricException)
        {
            return null;
        }
    }

    private static IEnumerable<int> ProcessesOf(MachineFiles files)
    {
        byte[] mark = Encoding.UTF8.GetBytes(files.Qmp);
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), out int id) && CommandLine(folder) is { } line && line.AsSpan().IndexOf(mark) >= 0
                && line.AsSpan().IndexOf("memory-backend-file"u8) >= 0)
            {
                yield return id;
            }
        }
    }

    private static byte[]? CommandLine(string folder)
    {
        try
        {
            byte[] line = File.ReadAllBytes(Path.Combine(folder, "cmdline"));
            return line.Length <= CommandLineBytesMost ? line : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It ended meanwhile, or is not ours to look at.
            return null;
        }
    }

    private async Task EndAsync(int id, CancellationToken cancellation)
    {
        using var process = ProcessHandle.TryOpen(id);
        if (process is null)
            return;
        process.SendKill();
        long began = _time.GetTimestamp();
        while (!process.HasExited)
        {
            if (_time.GetElapsedTime(began) > _options.KillDeadline)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The leftover QEMU process {id} did not end within {_options.KillDeadline.TotalSeconds:0} s of SIGKILL.");
            await Task.Delay(TimeSpan.FromMilliseconds(10), _time, cancellation);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Removed the leftover machine in {Folder}, which no ledger names.")]
    private partial void LogSwept(string folder);
}
