using Fabric.Core;

namespace Fabric.Host.Disk;

/// <summary>What the last check found. The image locks themselves belong to the hypervisor: taken when it runs, released with the device state.</summary>
internal abstract record DiskState
{
    internal sealed record Unchecked : DiskState;

    /// <summary>Every image is on shared storage and can be reached.</summary>
    internal sealed record Movable(int Disks) : DiskState;

    internal sealed record Refused(FabricError Why) : DiskState;
}
