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
    private const int ResidentAtOnce = 1024;

    // struct statx, the same on every architecture.
    private const int EmptyPath = 0x1000;
    private const uint StatusOfBlocks = 0x400;
    private const int StatusBytes = 256;
    private const int BlocksAt = 48;
    private const int BlockBytes = 512;

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
        for (long offset = 0; offset < Length;)
        {
            long data = SeekTo(offset, SeekData);
            // A guest that gives memory back may turn the rest into a hole between the two calls.
            long hole = data < 0 || data >= Length ? -1 : SeekTo(data, SeekHole);
            if (hole < 0)
                return;
            SetPages(present, data, Math.Min(hole, Length));
            offset = Math.Max(hole, data + 1);
        }
    }

    /// <summary>
    /// Sets the bits of the pages that exist from <paramref name="first"/> on and before <paramref name="end"/>, and leaves the others. The work is that of these pages: what <c>mincore</c> calls resident
    /// exists, and of the others, which may be swapped out, the file is asked. (Where data ends it is not asked: it would walk to that place, however far away.) Returns how many exist there.
    /// </summary>
    /// <param name="mapping">Where the file's beginning is mapped in this process, all of it; nothing is touched.</param>
    public unsafe long AddPresence(PageBitmap present, long first, long end, nint mapping)
    {
        ArgumentNullException.ThrowIfNull(present);
        byte* resident = stackalloc byte[ResidentAtOnce];
        long pages = 0;
        for (long from = first; from < end;)
        {
            int count = (int)Math.Min(end - from, ResidentAtOnce);
            ReadResident(mapping, from, count, resident);
            for (long page = from; page < from + count;)
            {
                long next = (resident[page - from] & 1) != 0 ? page : NextPresent(page);
                if (next == page)
                {
                    present[page] = true;
                    pages++;
                }

                page = next < 0 ? from + count : Math.Max(next, page + 1);
            }

            from += count;
        }

        return pages;
    }

    /// <summary>The first page that exists at or after <paramref name="page"/>, or -1.</summary>
    public long NextPresent(long page)
    {
        long data = page * VmSpec.PageSize < Length ? SeekTo(page * VmSpec.PageSize, SeekData) : -1;
        return data < 0 || data >= Length ? -1 : data / VmSpec.PageSize;
    }

    /// <summary>
    /// How many pages exist: the file system keeps count, so nothing is gone over. As many as <see cref="ReadPresence"/> would find of a file in tmpfs that nobody touches meanwhile; elsewhere, and where tmpfs uses huge
    /// pages, it may be more.
    /// </summary>
    public unsafe long CountPresent()
    {
        byte* status = stackalloc byte[StatusBytes];
        // SAFETY: the kernel writes a struct statx, 256 bytes by its definition, of the open file.
        if (Status(Handle, "", EmptyPath, StatusOfBlocks, status) != 0)
            throw NativeError.Last("statx");
        return *(long*)(status + BlocksAt) * BlockBytes / VmSpec.PageSize;
    }

    /// <summary>
    /// Clears the bits of pages of which nothing exists. The work is that of the set bits: what <c>mincore</c> calls resident exists; of the others, which may be swapped out, the file is asked one by one.
    /// (Asking it about runs would walk over the whole stretch of data around each.)
    /// </summary>
    /// <param name="mapping">Where the file's beginning is mapped in this process, all of it; nothing is touched.</param>
    public unsafe void KeepPresent(PageBitmap pages, nint mapping)
    {
        ArgumentNullException.ThrowIfNull(pages);
        byte* resident = stackalloc byte[ResidentAtOnce];
        for (long page = 0; page < pages.Length && pages.TryNextRun(page, ResidentAtOnce, out PageRun run); page = run.End)
        {
            ReadResident(mapping, run.First, run.Count, resident);
            for (int i = 0; i < run.Count; i++)
            {
                if ((resident[i] & 1) == 0 && !Exists(run.First + i))
                    pages[run.First + i] = false;
            }
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

    private bool Exists(long page) => NextPresent(page) == page;

    private static unsafe void ReadResident(nint mapping, long first, int count, byte* resident)
    {
        // SAFETY: the kernel writes one byte for each page, at most ResidentAtOnce; a range that is not mapped is an error value.
        if (Resident(mapping + (nint)(first * VmSpec.PageSize), (nuint)count * VmSpec.PageSize, resident) != 0)
            throw NativeError.Last("mincore");
    }

    // -1: there is none.
    private long SeekTo(long offset, int whence)
    {
        long found = Seek(Handle, offset, whence);
        return found >= 0 || Marshal.GetLastPInvokeError() == Errno.NoSuchAddress
            ? found
            : throw NativeError.Last(whence == SeekData ? "lseek SEEK_DATA" : "lseek SEEK_HOLE");
    }

    private static void SetPages(PageBitmap present, long from, long to)
    {
        long first = from / VmSpec.PageSize;
        long end = Math.Min((to + VmSpec.PageSize - 1) / VmSpec.PageSize, present.Length);
        for (long page = first; page < end;)
        {
            int count = (int)Math.Min(end - page, int.MaxValue);
            present.SetRun(new PageRun(page, count));
            page += count;
        }
    }

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    private static partial long Seek(SafeFileHandle file, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int Status(SafeFileHandle file, string path, int flags, uint mask, byte* status);

    [LibraryImport("libc", EntryPoint = "mincore", SetLastError = true)]
    private static unsafe partial int Resident(nint address, nuint length, byte* resident);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    private static partial int Truncate(SafeFileHandle file, long length);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int Allocate(SafeFileHandle file, int mode, long offset, long length);
}
