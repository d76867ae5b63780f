using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>
/// Plain access to mapped memory that the caller owns and that is never under userfaultfd: staging, and the RAM of the synthetic guest.
/// (Managed code that touches a page missing under userfaultfd in its own address space can freeze the whole process.)
/// Addresses are not checked: the caller stays inside its <see cref="MappedMemory"/>.
/// </summary>
public static partial class GuestBytes
{
    private const int MadviseDontNeed = 4;

    /// <param name="address">A multiple of 8.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe ulong Read(nint address)
    {
        // SAFETY: the caller's address lies in memory it owns; aligned, so the access is one load.
        return *(ulong*)address;
    }

    /// <param name="address">A multiple of 8.</param>
    /// <param name="value">Stored in one piece.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static unsafe void Write(nint address, ulong value)
    {
        // SAFETY: as above.
        *(ulong*)address = value;
    }

    public static unsafe void Copy(nint source, nint destination, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);

        // SAFETY: both ranges belong to the caller.
        Buffer.MemoryCopy((void*)source, (void*)destination, length, length);
    }

    public static unsafe bool IsZero(nint address, int length)
    {
        // SAFETY: the range belongs to the caller.
        return !new ReadOnlySpan<byte>((void*)address, length).ContainsAnyExcept((byte)0);
    }

    public static unsafe bool AreEqual(nint left, nint right, int length)
    {
        // SAFETY: both ranges belong to the caller.
        return new ReadOnlySpan<byte>((void*)left, length).SequenceEqual(new ReadOnlySpan<byte>((void*)right, length));
    }

    /// <summary>Gives private anonymous pages back to the kernel; they read as zeros afterwards.</summary>
    /// <param name="address">Page-aligned.</param>
    /// <param name="length">Bytes, whole pages.</param>
    /// <exception cref="Core.FabricException">native: the kernel refused.</exception>
    public static void Release(nint address, long length)
    {
        if (Advise(address, (nuint)length, MadviseDontNeed) != 0)
            throw NativeError.Last($"madvise of {length} bytes");
    }

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    private static partial int Advise(nint address, nuint length, int advice);
}
