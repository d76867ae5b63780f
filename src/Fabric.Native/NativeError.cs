using System.Runtime.InteropServices;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>Turns errno into a <see cref="FabricError"/> at the call site.</summary>
internal static class NativeError
{
    /// <summary>The last P/Invoke's errno as an exception: <c>"mmap of 4096 bytes: Cannot allocate memory (errno 12)"</c>.</summary>
    internal static FabricException Last(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        return new FabricException(ErrorCodes.Native, $"{what}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})");
    }
}

/// <summary>The errno values that callers decide on (Linux, all architectures that Fabric runs on).</summary>
public static class Errno
{
    public const int Interrupted = 4;
    public const int NoSuchProcess = 3;
    public const int NoSuchAddress = 6;
    public const int TryAgain = 11;
    public const int OutOfMemory = 12;
    public const int BadAddress = 14;
    public const int Exists = 17;
    public const int NotFound = 2;
    public const int NoSpace = 28;
}
