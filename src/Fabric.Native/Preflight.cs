using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>One thing that this machine must or should offer.</summary>
/// <param name="Name">Stable, kebab-case.</param>
/// <param name="Required">False: without it something is slower or unavailable, but QEMU machines can be run and moved.</param>
/// <param name="Detail">What was found.</param>
/// <param name="Remedy">What to do; null when nothing is lacking.</param>
public sealed record PreflightCheck(string Name, bool Ok, bool Required, string Detail, string? Remedy);

/// <summary>What is looked at.</summary>
public sealed record PreflightOptions
{
    public string QemuBinary { get; init; } = "qemu-system-x86_64";

    public string ShimPath { get; init; } = Path.Combine(AppContext.BaseDirectory, "libfabric-shim.so");

    public string MemoryDirectory { get; init; } = "/dev/shm";

    /// <summary>Bytes that guests shall have together.</summary>
    public long MemoryBytes { get; init; } = 256 * ByteSize.Mebi;
}

/// <summary>
/// Finds out, by trying, what this machine lacks for QEMU machines. Changes nothing; each probe closes what it opened. Results only: printing
/// them is the caller's.
/// </summary>
public static partial class Preflight
{
    private static readonly Version OldestQemu = new(7, 2);

    public static IReadOnlyList<PreflightCheck> Run(PreflightOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return
        [
            CheckKernel(),
            CheckUserFault(),
            CheckTracing(),
            CheckQemu(options.QemuBinary),
            CheckShim(options.ShimPath),
            CheckCompiler(File.Exists(options.ShimPath)),
            CheckKvm(),
            CheckNetwork(),
            CheckMemory(options.MemoryDirectory, options.MemoryBytes),
            CheckHash(),
            CheckPacking(),
        ];
    }

    /// <summary>The required checks that failed, as one sentence; null when QEMU machines can be run and moved here.</summary>
    public static string? WhyNot(IEnumerable<PreflightCheck> checks)
    {
        string text = string.Join("; ", checks.Where(c => c is { Required: true, Ok: false }).Select(c => $"{c.Name}: {c.Detail}. {c.Remedy}"));
        return text.Length == 0 ? null : text;
    }

    private static PreflightCheck CheckKernel()
    {
        string version = Environment.OSVersion.Version.ToString();
        try
        {
            // A page of this process that exists, and a scan that changes nothing: is the request known at all?
            using var page = MappedMemory.Anonymous(VmSpec.PageSize);
            using var scan = new PagemapScan(Environment.ProcessId, (ulong)page.Address, VmSpec.PageSize);
            scan.Peek();
            return Good("kernel", $"Linux {version} has PAGEMAP_SCAN");
        }
        catch (FabricException error)
        {
            return Lacking("kernel", $"Linux {version}: {error.Error.Message}", "Use Linux 6.7 or newer: dirty pages are tracked with PAGEMAP_SCAN.");
        }
    }

    private static PreflightCheck CheckUserFault()
    {
        const string remedy = "Run as root, or give the service access to /dev/userfaultfd, or set vm.unprivileged_userfaultfd=1.";
        using var fault = OpenUserFault(out string how);
        if (fault is null)
            return Lacking("userfaultfd", how, remedy);
        return Negotiate(fault)
            ? Good("userfaultfd", $"permitted ({how}), all features")
            : Lacking("userfaultfd", $"permitted ({how}), but lacks {UserFaultFeatures.Required}", "Use Linux 6.7 or newer.");
    }

    /// <summary>Asks for the features that are needed; once for each descriptor, before its first use.</summary>
    internal static unsafe bool Negotiate(UserFault fault)
    {
        var api = new UserFaultLayout.Api { Version = UserFaultLayout.ApiVersion, Features = (ulong)UserFaultFeatures.Required };

        // SAFETY: the kernel reads and writes only the structure on this stack. Nothing is registered.
        return LinuxCalls.Ioctl(fault, UserFaultLayout.ApiRequest, &api) == 0;
    }

    /// <summary>Of this process; null, and why, where it is not permitted.</summary>
    internal static UserFault? OpenUserFault(out string how)
    {
        const int flags = LinuxCalls.OpenCloseOnExec | LinuxCalls.OpenNonBlocking;
        long number = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 282 : 323;
        nint descriptor = LinuxCalls.SystemCall(number, flags, 0, 0, 0);
        how = "by system call";
        if (descriptor >= 0)
            return new UserFault((int)descriptor);
        how = NativeError.Last("userfaultfd").Error.Message;
        try
        {
            using var device = LinuxCalls.OpenFile("/dev/userfaultfd", LinuxCalls.OpenReadWrite);
            descriptor = NewFromDevice(device, flags);
        }
        catch (FabricException)
        {
            return null;
        }

        if (descriptor < 0)
            return null;
        how = "by /dev/userfaultfd";
        return new UserFault((int)descriptor);
    }

    // SAFETY: this request's argument is a number, not an address; the kernel follows no pointer.
    private static unsafe nint NewFromDevice(SafeFileHandle device, int flags) => LinuxCalls.Ioctl(device, UserFaultLayout.DeviceNewRequest, (void*)flags);

    private static PreflightCheck CheckTracing()
    {
        // Needed for another process's pagemap and descriptors. Root has it unless a container took it away.
        const int captureBit = 19;
        return HasCapability(captureBit)
            ? Good("trace-processes", "CAP_SYS_PTRACE is there")
            : Lacking("trace-processes", "CAP_SYS_PTRACE is not there", "Run as root, or give the service AmbientCapabilities=CAP_SYS_PTRACE.");
    }

    private static bool HasCapability(int bit) =>
        File.ReadLines("/proc/self/status").FirstOrDefault(l => l.StartsWith("CapEff:", StringComparison.Ordinal)) is { } line
        && ulong.TryParse(line.AsSpan(7).Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong capabilities)
        && (capabilities >> bit & 1) != 0;

    /// <summary>What VMs with network cards need: QEMU, which gets this process's rights, makes a tap for each.</summary>
    public static PreflightCheck CheckNetwork()
    {
        const int administrateBit = 12;
        if (!HasCapability(administrateBit))
            return new PreflightCheck("network", Ok: false, Required: false, "CAP_NET_ADMIN is not there", "For VMs with network cards: run as root, or give the service AmbientCapabilities=CAP_NET_ADMIN.");
        return File.Exists("/dev/net/tun")
            ? Good("network", "CAP_NET_ADMIN and /dev/net/tun are there", required: false)
            : new PreflightCheck("network", Ok: false, Required: false, "/dev/net/tun is not there", "For VMs with network cards: modprobe tun.");
    }

    private static PreflightCheck CheckQemu(string binary)
    {
        const string remedy = "Install it: apt install qemu-system-x86";
        var (started, output) = Probe.Run(binary, "--version");
        if (!started)
            return Lacking("qemu", $"'{binary}' cannot be started", remedy);
        var match = VersionPattern().Match(output);
        if (!match.Success || !Version.TryParse(match.Groups["number"].Value, out var version))
            return Lacking("qemu", $"'{binary} --version' says '{Label.Shorten(output)}'", remedy);
        return version >= OldestQemu
            ? Good("qemu", $"{binary} {version}")
            : Lacking("qemu", $"{binary} {version} is older than {OldestQemu}", "Install QEMU 7.2 or newer.");
    }

    private static PreflightCheck CheckShim(string path) => File.Exists(path)
        ? Good("shim", path)
        : Lacking("shim", $"'{path}' is not there", "Install gcc and build again: it is compiled with the project.");

    private static PreflightCheck CheckCompiler(bool shimIsThere)
    {
        string? found = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .SelectMany(directory => new[] { "cc", "gcc", "clang" }.Select(name => Path.Combine(directory, name)))
            .FirstOrDefault(File.Exists);
        return found is not null
            ? Good("c-compiler", found, required: false)
            : new PreflightCheck("c-compiler", shimIsThere, Required: false, "no cc, gcc or clang in PATH", shimIsThere ? null : "Install it: apt install gcc libc6-dev");
    }

    private static PreflightCheck CheckKvm()
    {
        try
        {
            using var kvm = LinuxCalls.OpenFile("/dev/kvm", LinuxCalls.OpenReadWrite);
            return Good("kvm", "/dev/kvm can be opened", required: false);
        }
        catch (FabricException error)
        {
            return new PreflightCheck("kvm", Ok: false, Required: false, error.Error.Message, "Guests run under TCG, slowly. Enable virtualization in the firmware, load kvm_intel or kvm_amd, join the group 'kvm'.");
        }
    }

    private static PreflightCheck CheckMemory(string directory, long bytes)
    {
        if (!Directory.Exists(directory))
            return Lacking("memory-directory", $"'{directory}' is not there", "Mount a tmpfs there.");
        var drive = new DriveInfo(directory);
        if (drive.DriveFormat != "tmpfs")
            return Lacking("memory-directory", $"'{directory}' is {drive.DriveFormat}, not tmpfs", "Mount a tmpfs there: guests' RAM lies in it.");
        return drive.AvailableFreeSpace >= bytes
            ? Good("memory-directory", $"{directory} has {ByteSize.Format(drive.AvailableFreeSpace)} free")
            : Lacking("memory-directory", $"{directory} has {ByteSize.Format(drive.AvailableFreeSpace)} free, {ByteSize.Format(bytes)} are asked for", $"mount -o remount,size=… {directory}");
    }

    private static PreflightCheck CheckHash()
    {
        if (!NativeLibrary.TryLoad("libxxhash.so.0", out nint library))
            return Lacking("xxhash", "libxxhash.so.0 cannot be loaded", "Install it: apt install libxxhash0");
        NativeLibrary.Free(library);
        return Good("xxhash", "libxxhash.so.0 can be loaded");
    }

    /// <summary>Not required: without them pages are sent as they are.</summary>
    private static PreflightCheck CheckPacking() => BlockCodec.HasLz4 && BlockCodec.HasZstd
        ? Good("packing", "liblz4 and libzstd can be loaded", required: false)
        : new PreflightCheck("packing", Ok: false, Required: false, $"{(BlockCodec.HasLz4 ? "libzstd.so.1" : "liblz4.so.1")} cannot be loaded: a slow wire carries pages as they are", "Install them: apt install liblz4-1 libzstd1");

    private static PreflightCheck Good(string name, string detail, bool required = true) => new(name, Ok: true, required, detail, Remedy: null);

    private static PreflightCheck Lacking(string name, string detail, string remedy) => new(name, Ok: false, Required: true, detail, remedy);

    [GeneratedRegex(@"version (?<number>\d+\.\d+(\.\d+)?)", RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex VersionPattern();
}
