using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// Work on the bytes of pages. Only for memory whose pages are there or may be made by a touch: never for a page that is missing under a
/// userfaultfd of this process (a managed thread that waits in such a fault can stop the garbage collector, and with it the process).
/// </summary>
public static unsafe partial class PageBytes
{
    private const int MadvisePopulateWrite = 23;

    /// <summary>True if all bytes are zero. The length is a multiple of 64. Returns at the first 64 bytes that are not.</summary>
    public static bool IsZero(nint address, int length)
    {
        if ((length & 63) != 0 || length < 0)
            throw new ArgumentOutOfRangeException(nameof(length), length, "A multiple of 64.");
        // SAFETY: the caller vouches for the range; reads only.
        byte* at = (byte*)address;
        byte* end = at + length;
        for (; at < end; at += 64)
        {
            if (Vector512.Load(at) != Vector512<byte>.Zero)
                return false;
        }

        return true;
    }

    /// <summary>Copies bytes between areas that do not overlap.</summary>
    public static void Copy(nint source, nint destination, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        // SAFETY: the caller vouches for both ranges.
        Buffer.MemoryCopy((void*)source, (void*)destination, length, length);
    }

    /// <summary>Leaves at <paramref name="bytes"/> how they differ from <paramref name="before"/> (XOR). The length is a multiple of 64.</summary>
    public static void Subtract(nint bytes, nint before, int length)
    {
        if ((length & 63) != 0 || length < 0)
            throw new ArgumentOutOfRangeException(nameof(length), length, "A multiple of 64.");
        // SAFETY: the caller vouches for both ranges.
        byte* to = (byte*)bytes;
        byte* from = (byte*)before;
        for (int i = 0; i < length; i += 64)
            (Vector512.Load(to + i) ^ Vector512.Load(from + i)).Store(to + i);
    }

    /// <summary>As <see cref="Subtract"/>, and <paramref name="before"/> becomes what <paramref name="bytes"/> were.</summary>
    public static void SubtractAndKeep(nint bytes, nint before, int length)
    {
        if ((length & 63) != 0 || length < 0)
            throw new ArgumentOutOfRangeException(nameof(length), length, "A multiple of 64.");
        // SAFETY: the caller vouches for both ranges.
        byte* to = (byte*)bytes;
        byte* from = (byte*)before;
        for (int i = 0; i < length; i += 64)
        {
            var now = Vector512.Load(to + i);
            (now ^ Vector512.Load(from + i)).Store(to + i);
            now.Store(from + i);
        }
    }

    /// <summary>Fills with one byte.</summary>
    public static void Fill(nint address, long length, byte value)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        // SAFETY: the caller vouches for the range.
        NativeMemory.Fill((void*)address, (nuint)length, value);
    }

    /// <summary>
    /// Writes bytes into a file at an offset. Into a hole of a tmpfs file this is about half the cost of writing through a mapping: no fault, no
    /// zeroing of what is overwritten at once.
    /// </summary>
    /// <exception cref="FabricException">native, for example no space.</exception>
    public static void WriteFile(SafeFileHandle file, long offset, nint source, long length) => Move(file, offset, source, length, writes: true);

    /// <summary>
    /// Reads bytes of a file that has them all. Of tmpfs this is a copy, and no fault: the first touch of a page through a mapping costs a quarter of a microsecond, and twenty times as much in a virtual machine whose
    /// hypervisor keeps page tables of its own.
    /// </summary>
    /// <exception cref="FabricException">native; or the file ends before.</exception>
    public static void ReadFile(SafeFileHandle file, long offset, nint target, long length) => Move(file, offset, target, length, writes: false);

    private static void Move(SafeFileHandle file, long offset, nint memory, long length, bool writes)
    {
        ArgumentNullException.ThrowIfNull(file);
        bool held = false;
        try
        {
            file.DangerousAddRef(ref held);
            int descriptor = (int)file.DangerousGetHandle();
            while (length > 0)
            {
                nint moved = writes ? Libc.WriteAt(descriptor, memory, (nuint)length, offset) : Libc.ReadAt(descriptor, memory, (nuint)length, offset);
                if (moved < 0 && Marshal.GetLastPInvokeError() == Errno.Interrupted)
                    continue;
                if (moved < 0 || (moved == 0 && writes))
                    throw NativeError.Last($"{(writes ? "pwrite" : "pread")} of {length} bytes at {offset}");
                if (moved == 0)
                    throw new FabricException(ErrorCodes.Native, $"A file ends {length} bytes before it should, at {offset}.");
                memory += moved;
                offset += moved;
                length -= moved;
            }
        }
        finally
        {
            if (held)
                file.DangerousRelease();
        }
    }

    /// <summary>
    /// Makes the pages of a mapping exist and writable in one call instead of one fault each. Only a hint: returns false where the kernel
    /// refuses (before Linux 5.14, or no memory: the later touch reports that).
    /// </summary>
    public static bool Populate(nint address, long length) => Libc.Advise(address, (nuint)length, MadvisePopulateWrite) == 0;

    private static partial class Libc
    {
        [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
        internal static partial nint WriteAt(int descriptor, nint source, nuint length, long offset);

        [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
        internal static partial nint ReadAt(int descriptor, nint target, nuint length, long offset);

        [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
        internal static partial int Advise(nint address, nuint length, int advice);
    }
}
