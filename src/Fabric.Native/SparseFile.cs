using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// A file of pages some of which do not exist (a hole reads as zeros and takes no memory). For a file in tmpfs, "exists" is exactly "has been touched and not
/// been given back": the presence map of a guest's RAM. Any thread; <see cref="ReadPresence"/> moves the file's offset and belongs to one thread at a time.
/// </summary>
public sealed partial class SparseFile : IDisposable
{
    private const int SeekData = 3;
    private const int SeekHole = 4;
    private const int PunchHoleKeepSize = 1 | 2;

    private SparseFile(SafeFileHandle handle, long length)
    {
        Handle = handle;
        Length = length;
    }

    public SafeFileHandle Handle { get; }

    /// <summary>Bytes, as it was when opened.</summary>
    public long Length { get; }

    /// <summary>Makes a new file of <paramref name="length"/> bytes, all of it a hole, that only its owner may open.</summary>
    /// <exception cref="FabricException">native: the file exists, or the directory refuses it.</exception>
    public static SparseFile Create(string path, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        var handle = LinuxCalls.OpenFile(path, LinuxCalls.OpenReadWrite | LinuxCalls.OpenCreate | LinuxCalls.OpenExclusive, mode: 0x180 /* 0600 */);
        if (Truncate(handle, length) == 0)
            return new SparseFile(handle, length);
        var error = NativeError.Last($"ftruncate {path} to {length} bytes");
        handle.Dispose();
        throw error;
    }

    /// <summary>Opens an existing file for reading and writing.</summary>
    public static SparseFile Open(string path)
    {
        var handle = LinuxCalls.OpenFile(path, LinuxCalls.OpenReadWrite);
        try
        {
            return new SparseFile(handle, RandomAccess.GetLength(handle));
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Sets exactly the bits of the pages that exist. A page of which any byte exists counts.</summary>
    public void ReadPresence(PageBitmap present)
    {
        ArgumentNullException.ThrowIfNull(present);
        present.Clear();
        long offset = 0;
        while (offset < Length)
        {
            long data = Seek(Handle, offset, SeekData);
            if (data < 0)
            {
                if (Marshal.GetLastPInvokeError() == Errno.NoSuchAddress)
                    return;
                throw NativeError.Last("lseek SEEK_DATA");
            }

            long hole = Seek(Handle, data, SeekHole);
            if (hole < 0)
            {
                // A guest that gives memory back may turn the rest into a hole between the two calls.
                if (Marshal.GetLastPInvokeError() == Errno.NoSuchAddress)
                    return;
                throw NativeError.Last("lseek SEEK_HOLE");
            }

            SetPages(present, data, Math.Min(hole, Length));
            offset = Math.Max(hole, data + 1);
        }
    }

    /// <summary>Turns bytes into a hole. The length of the file stays.</summary>
    public void PunchHole(long offset, long length)
    {
        if (length == 0)
            return;
        while (Allocate(Handle, PunchHoleKeepSize, offset, length) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Errno.Interrupted)
                throw NativeError.Last($"fallocate: punching {length} bytes at {offset}");
        }
    }

    public void Dispose() => Handle.Dispose();

    private static void SetPages(PageBitmap present, long from, long to)
    {
        long first = from / VmSpec.PageSize;
        long end = Math.Min((to + VmSpec.PageSize - 1) / VmSpec.PageSize, present.Length);
        while (first < end)
        {
            int count = (int)Math.Min(end - first, int.MaxValue);
            present.SetRun(new PageRun(first, count));
            first += count;
        }
    }

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    private static partial long Seek(SafeFileHandle file, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    private static partial int Truncate(SafeFileHandle file, long length);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int Allocate(SafeFileHandle file, int mode, long offset, long length);
}
