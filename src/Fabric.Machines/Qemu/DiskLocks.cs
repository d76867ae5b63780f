using System.Globalization;

namespace Fabric.Machines.Qemu;

/// <summary>
/// Whether a QEMU process holds the write lock of a disk image, as the kernel tells in <c>/proc/PID/fdinfo</c>. QEMU locks single bytes of the image (file-posix.c):
/// byte 100 + n while it uses permission n, byte 200 + n while it does not share it; writing is permission 1.
/// </summary>
internal static class DiskLocks
{
    private const int UnsharedWriteByte = 201;

    internal static bool IsHeld(int processId, string path)
    {
        string resolved = new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? path;
        foreach (var descriptor in new DirectoryInfo($"/proc/{processId}/fd").EnumerateFileSystemInfos())
        {
            try
            {
                if (descriptor.LinkTarget == resolved && File.ReadLines($"/proc/{processId}/fdinfo/{descriptor.Name}").Any(LocksWriting))
                    return true;
            }
            catch (IOException)
            {
                // Closed between the listing and the look.
            }
        }

        return false;
    }

    // lock:	1: OFDLCK  ADVISORY  READ -1 08:01:1234 201 201
    internal static bool LocksWriting(string line)
    {
        if (!line.StartsWith("lock:", StringComparison.Ordinal))
            return false;
        string[] fields = line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
        if (fields.Length < 3 || !long.TryParse(fields[^2], NumberStyles.None, CultureInfo.InvariantCulture, out long first))
            return false;
        long last = fields[^1] == "EOF" ? long.MaxValue : long.TryParse(fields[^1], NumberStyles.None, CultureInfo.InvariantCulture, out long end) ? end : -1;
        return first <= UnsharedWriteByte && UnsharedWriteByte <= last;
    }
}
