namespace Fabric.Core;

/// <summary>Every bound that is not a setting, in one place. A value beyond one of these is refused, never cut.</summary>
public static class Limits
{
    public const int DisksPerVm = 16;
    public const int NicsPerVm = 8;
    public const int VmsPerHost = 1000;

    /// <summary>Bulk connections of one migration.</summary>
    public const int BulkConnections = 16;

    /// <summary>Pivots that are alive at a time in a pull phase.</summary>
    public const int Pivots = 64;

    /// <summary>Pages in one data frame: 1 MiB of guest memory.</summary>
    public const int PagesPerFrame = 256;

    /// <summary>Bytes of a serialized device state (QEMU's is tens of KiB; many devices make it larger).</summary>
    public const int DeviceStateBytes = 64 * 1024 * 1024;

    /// <summary>Bytes of a control frame or of one HTTP body.</summary>
    public const int ControlMessageBytes = 4 * 1024 * 1024;

    /// <summary>Bytes of one QMP line.</summary>
    public const int QmpLineBytes = 16 * 1024 * 1024;

    /// <summary>Free text kept with a migration (--reason).</summary>
    public const int ReasonCharacters = 1024;
}
