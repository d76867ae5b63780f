using System.Globalization;
using Fabric.Core;

namespace Fabric.Machines.Qemu;

/// <summary>
/// Every path that belongs to one QEMU process. Two folders, both owner-only: one for sockets and logs, one in memory for RAM and the device state.
/// Removal names each file, so that a wrong record can never take other people's files along.
/// </summary>
internal sealed record MachineFiles(string Directory, string MemoryDirectory, string ConsoleLog)
{
    private const int NameCharacters = 20;
    private const int NonceCharacters = 8;

    /// <summary>Bytes behind the configured directory of the longest socket path: "/name-nonce/incoming".</summary>
    internal const int LongestSocketSuffix = 1 + NameCharacters + 1 + NonceCharacters + 9;

    internal string Qmp => Path.Combine(Directory, "qmp");

    internal string Shim => Path.Combine(Directory, "shim");

    internal string Incoming => Path.Combine(Directory, "incoming");

    internal string Reclaim => Path.Combine(Directory, "reclaim");

    internal string HypervisorLog => Path.Combine(Directory, "qemu.log");

    /// <summary>
    /// The host's end of a network card. Named after the machine and not after the VM: where two agents share a network namespace, a VM that is being moved has two machines there.
    /// </summary>
    internal string Tap(int index) => string.Create(CultureInfo.InvariantCulture, $"fab{Directory[(Directory.LastIndexOf('-') + 1)..]}-{index}");

    internal string Ram => Path.Combine(MemoryDirectory, "ram");

    internal string DeviceState => Path.Combine(MemoryDirectory, "device-state");

    /// <summary>
    /// A link to <see cref="DeviceState"/> in QEMU's working directory. QEMU reads its commands byte by byte, some 10 µs each, while the guest stands: a path of 70 characters would cost most of a millisecond.
    /// </summary>
    internal const string ShortDeviceState = "s";

    private string DeviceStateLink => Path.Combine(Directory, ShortDeviceState);

    /// <summary>Fresh names; nothing is created yet.</summary>
    internal static MachineFiles For(QemuOptions options, VmName vm, Random random)
    {
        string name = vm.Value.Length <= NameCharacters ? vm.Value : vm.Value[..NameCharacters];
        string instance = $"{name}-{random.NextInt64(1L << 32):x8}";
        string directory = Path.Combine(options.Directory, instance);
        string console = options.ConsoleDirectory is { } consoles ? Path.Combine(consoles, $"{vm}.log") : Path.Combine(directory, "console.log");
        return new MachineFiles(directory, Path.Combine(options.MemoryDirectory, "fabric-" + instance), console);
    }

    internal void Create()
    {
        const UnixFileMode ownerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        foreach (string path in new[] { Directory, MemoryDirectory })
        {
            if (Path.Exists(path))
                throw new FabricException(ErrorCodes.AlreadyExists, $"'{path}' exists already.");
            if (!OperatingSystem.IsWindows())
                System.IO.Directory.CreateDirectory(path, ownerOnly);
        }

        File.CreateSymbolicLink(DeviceStateLink, DeviceState);
        System.IO.Directory.CreateDirectory(Path.GetDirectoryName(ConsoleLog)!);
    }

    /// <summary>Removes what is there. Idempotent; a file that somebody else put into a folder stays, and its folder too.</summary>
    internal void Remove()
    {
        string[] names = [Ram, DeviceState, DeviceStateLink, Qmp, Shim, Incoming, Reclaim, HypervisorLog];
        string own = Path.Combine(Directory, "console.log");
        foreach (string path in names.Append(own))
        {
            if (Path.Exists(Path.GetDirectoryName(path)))
                File.Delete(path);
        }

        foreach (string path in new[] { Directory, MemoryDirectory })
        {
            if (System.IO.Directory.Exists(path) && !System.IO.Directory.EnumerateFileSystemEntries(path).Any())
                System.IO.Directory.Delete(path);
        }
    }

    /// <summary>What QEMU and the shim said last, at most <paramref name="most"/> bytes, without control characters; empty when nothing.</summary>
    internal string LastWords(int most = 2048)
    {
        try
        {
            using var stream = new FileStream(HypervisorLog, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            stream.Seek(-Math.Min(most, stream.Length), SeekOrigin.End);
            byte[] bytes = new byte[Math.Min(most, stream.Length)];
            int read = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return Printable(System.Text.Encoding.UTF8.GetString(bytes, 0, read));
        }
        catch (IOException)
        {
            return "";
        }
    }

    internal static string Printable(string text) =>
        string.Join("; ", text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Select(line => new string([.. line.Select(c => char.IsControl(c) ? '?' : c)])));
}
