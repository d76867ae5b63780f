using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>Makes names in a directory durable: a new or renamed file survives a crash only after its directory was synced.</summary>
public static partial class DirectorySync
{
    /// <exception cref="Fabric.Core.FabricException">native: the directory cannot be opened or synced.</exception>
    public static void Sync(string directory)
    {
        int descriptor = Open(directory, ReadOnly | DirectoryOnly | CloseOnExec);
        if (descriptor < 0)
            throw NativeError.Last($"open of directory {directory}");
        try
        {
            if (FSync(descriptor) != 0)
                throw NativeError.Last($"fsync of directory {directory}");
        }
        finally
        {
            _ = Close(descriptor);
        }
    }

    private const int ReadOnly = 0;
    private const int DirectoryOnly = 0x10000;
    private const int CloseOnExec = 0x80000;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int FSync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int descriptor);
}
