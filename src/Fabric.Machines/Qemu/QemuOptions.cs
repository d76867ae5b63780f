using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>How and where QEMU processes are made on this host.</summary>
public sealed record QemuOptions
{
    /// <summary>
    /// Holds one owner-only folder per machine: sockets and logs. A Unix socket's path has at most 107 bytes, of which 36 are needed below this directory.
    /// </summary>
    public required string Directory { get; init; }

    /// <summary>Holds one owner-only folder per machine with its RAM file; must be a tmpfs.</summary>
    public string MemoryDirectory { get; init; } = "/dev/shm";

    /// <summary>
    /// Where guests' serial logs are kept as <c>NAME.log</c>, appended to by every machine of that name and removed by nobody here.
    /// Null: the log lies in the machine's own folder and goes with it.
    /// </summary>
    public string? ConsoleDirectory { get; init; }

    public string Binary { get; init; } = "qemu-system-x86_64";

    public string ShimPath { get; init; } = Path.Combine(AppContext.BaseDirectory, "libfabric-shim.so");

    /// <summary>
    /// A versioned machine type, the same on all hosts: the device state of one does not load into another. Without devices that no guest of a server needs: each of
    /// them takes its share of the stop (HPET, SMBus, PS/2 and the VMware port together cost 0.7 of 1.9 ms of saving and 0.9 of 3.2 ms of loading, medians; SATA 0.7 ms).
    /// </summary>
    public string MachineType { get; init; } = "pc-q35-7.2,sata=off,smbus=off,hpet=off,i8042=off,vmport=off";

    /// <summary>
    /// A CPU model that every host can offer, the same on all hosts. Null takes the default of the accelerator, see <see cref="QemuCommandLine"/>.
    /// </summary>
    public string? CpuModel { get; init; }

    /// <summary>From the start of the process to its first QMP answer.</summary>
    public TimeSpan LaunchDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>One QMP command that does no disk or device work.</summary>
    public TimeSpan CommandDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long an adopted machine may take to greet before it is taken without.</summary>
    public TimeSpan AdoptionDeadline { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Stopping (which finishes disk requests), saving and loading a device state, taking disk locks.</summary>
    public TimeSpan StateDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>From SIGKILL to the end of the process.</summary>
    public TimeSpan KillDeadline { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>The first setting that cannot work, or null.</summary>
    internal FabricError? Validate()
    {
        foreach (string path in new[] { Directory, MemoryDirectory, ConsoleDirectory ?? "/", ShimPath })
        {
            if (!Path.IsPathFullyQualified(path) || path.Contains(',') || path.Any(char.IsControl))
                return new FabricError(ErrorCodes.InvalidArgument, $"The QEMU option path '{Label.Shorten(path)}' cannot be used.", "Give an absolute path without commas or control characters.");
        }

        int longest = System.Text.Encoding.UTF8.GetByteCount(Directory) + MachineFiles.LongestSocketSuffix;
        return longest <= DescriptorListener.MaxPathBytes
            ? null
            : new FabricError(
                ErrorCodes.InvalidArgument,
                $"The machine directory '{Directory}' is too long for Unix sockets ({longest} of at most {DescriptorListener.MaxPathBytes} bytes).",
                "Choose a shorter one, for example below /run.");
    }
}
