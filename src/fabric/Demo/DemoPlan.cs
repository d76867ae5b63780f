using System.Diagnostics;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Cli.Demo;

internal sealed record DemoOptions(MachineKind Machine, int Hosts, string Daemon);

/// <summary>A guest of the demo and where it is born. <paramref name="Rate"/>: pages a second that its workload touches; 0 for idle.</summary>
internal sealed record DemoGuest(VmName Name, string Workload, int Rate, HostName Host);

internal sealed record DemoMove(VmName Vm, HostName To, MigrationMode Mode, VerifyLevel Verify);

/// <summary>
/// What the demo does: four guests with different workloads, eight single moves (two of each mode), then one evacuation. More than half of
/// all moves are verified in full. Neighbouring moves are of different guests: a guest can tell two of its own stops apart only some seconds apart.
/// </summary>
internal static class DemoPlan
{
    public const long MemoryBytes = 256 * ByteSize.Mebi;

    /// <summary>MiB that a workload works on.</summary>
    public const int WorkingSetMebibytes = 32;

    public static HostName Evacuated { get; } = HostName.Parse("alpha");

    public static IReadOnlyList<DemoGuest> Guests { get; } =
    [
        new(VmName.Parse("idle"), "idle", 0, HostName.Parse("alpha")),
        new(VmName.Parse("reader"), "read-heavy", 4000, HostName.Parse("alpha")),
        new(VmName.Parse("writer"), "write-heavy", 2000, HostName.Parse("beta")),
        new(VmName.Parse("oracle"), "oracle", 4000, HostName.Parse("beta")),
    ];

    public static IReadOnlyList<DemoMove> Moves { get; } =
    [
        Move("idle", "beta", MigrationMode.PreCopy, VerifyLevel.Full),
        Move("writer", "gamma", MigrationMode.PreCopy, VerifyLevel.Frames),
        Move("reader", "beta", MigrationMode.PostCopy, VerifyLevel.Full),
        Move("oracle", "alpha", MigrationMode.PostCopy, VerifyLevel.Frames),
        Move("idle", "gamma", MigrationMode.Hybrid, VerifyLevel.Frames),
        Move("writer", "alpha", MigrationMode.Hybrid, VerifyLevel.Full),
        Move("reader", "alpha", MigrationMode.Auto, VerifyLevel.Full),
        Move("oracle", "gamma", MigrationMode.Auto, VerifyLevel.Frames),
    ];

    /// <summary>The batch at the end: two guests are on <see cref="Evacuated"/> by then.</summary>
    public static MigrationOptions EvacuationOptions { get; } = new() { Mode = MigrationMode.Auto, Verify = VerifyLevel.Full, Reason = "demo: empty the host" };

    public static VmSpec Spec(DemoGuest guest, MachineKind machine, GuestImage? image) => machine == MachineKind.Synthetic
        ? new VmSpec { Name = guest.Name, Machine = machine, MemoryBytes = MemoryBytes, Workload = $"{guest.Workload}:{guest.Name.Value.Length}:{WorkingSetMebibytes}M:{Math.Max(100, guest.Rate)}" }
        : new VmSpec
        {
            Name = guest.Name,
            Machine = machine,
            MemoryBytes = MemoryBytes,
            Kernel = (image ?? throw new UnreachableException("QEMU guests have an image")).Kernel,
            Initrd = image.Initrd,
            Append = $"fabric.workload={guest.Workload} fabric.mb={WorkingSetMebibytes} fabric.rate={guest.Rate}",
        };

    private static DemoMove Move(string vm, string to, MigrationMode mode, VerifyLevel verify) => new(VmName.Parse(vm), HostName.Parse(to), mode, verify);
}
