using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// A file that only grows, synced on demand: what a ledger is written to. One thread at a time. After any failure its content on disk is
/// unknown: close it, read it again, decide from what is there.
/// </summary>
public sealed partial class FileSync : IDisposable
{
    private readonly SafeFileHandle _file;

    private FileSync(SafeFileHandle file, string path)
    {
        _file = file;
        Path = path;
    }

    public string Path { get; }

    /// <summary>Opens or creates the file (owner-only), and makes its directory entry durable.</summary>
    public static FileSync Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string full = System.IO.Path.GetFullPath(path);
        var file = LinuxCalls.OpenFile(full, LinuxCalls.OpenWriteOnly | LinuxCalls.OpenAppend | LinuxCalls.OpenCreate, mode: 0x180 /* 0600 */);
        try
        {
            using var directory = LinuxCalls.OpenFile(System.IO.Path.GetDirectoryName(full)!, LinuxCalls.OpenReadOnly);
            if (SyncAll(directory) != 0)
                throw NativeError.Last($"fsync of the directory of {full}");
            return new FileSync(file, full);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Appends all bytes; they are durable only after <see cref="Sync"/>.</summary>
    /// <exception cref="FabricException">store-failed: the disk is full or broken; a part may have been written.</exception>
    public unsafe void Append(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            int done = 0;
            while (done < bytes.Length)
            {
                // SAFETY: [done, Length) lies in the pinned span.
                nint written = LinuxCalls.Write(_file, start + done, (nuint)(bytes.Length - done));
                if (written >= 0)
                    done += (int)written;
                else if (Marshal.GetLastPInvokeError() != Errno.Interrupted)
                    throw Failed("append");
            }
        }
    }

    /// <summary>Returns when everything appended is on stable storage (<c>fdatasync</c>).</summary>
    /// <exception cref="FabricException">store-failed: the outcome is unknown; a second call would not tell (the kernel reports an error once).</exception>
    public void Sync()
    {
        while (SyncData(_file) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Errno.Interrupted)
                throw Failed("fdatasync");
        }
    }

    public void Dispose() => _file.Dispose();

    private FabricException Failed(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        return new FabricException(ErrorCodes.StoreFailed, $"{what} of {Path}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})", "Check the disk's free space and health.");
    }

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int SyncAll(SafeFileHandle file);

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    private static partial int SyncData(SafeFileHandle file);
}
