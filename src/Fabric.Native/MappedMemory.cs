using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// A region of memory outside the garbage collector: a shared mapping of a file (a guest's RAM) or anonymous pages (staging).
/// Owned by whoever made it; <see cref="Dispose"/> unmaps, after which the address must not be used. Not thread-safe in its
/// disposal: the owner first waits for everyone who uses the address.
/// </summary>
public sealed partial class MappedMemory : IDisposable
{
    private nint _address;

    private MappedMemory(nint address, long length)
    {
        _address = address;
        Length = length;
    }

    public nint Address => _address != 0 ? _address : throw new ObjectDisposedException(nameof(MappedMemory));

    /// <summary>Bytes.</summary>
    public long Length { get; }

    /// <summary>Maps the first <paramref name="length"/> bytes of a file, shared, readable and writable.</summary>
    /// <exception cref="FabricException">native: the kernel refused.</exception>
    public static MappedMemory MapFile(SafeFileHandle file, long length)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        bool added = false;
        try
        {
            file.DangerousAddRef(ref added);
            return Map(length, Libc.MapShared, (int)file.DangerousGetHandle());
        }
        finally
        {
            if (added)
                file.DangerousRelease();
        }
    }

    /// <summary>Private zeroed pages.</summary>
    public static MappedMemory Anonymous(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        return Map(length, Libc.MapPrivate | Libc.MapAnonymous, -1);
    }

    public void Dispose()
    {
        nint address = Interlocked.Exchange(ref _address, 0);
        if (address != 0 && Libc.Unmap(address, (nuint)Length) != 0)
            throw NativeError.Last($"munmap of {Length} bytes");
    }

    private static MappedMemory Map(long length, int flags, int descriptor)
    {
        nint address = Libc.Map(0, (nuint)length, Libc.ProtRead | Libc.ProtWrite, flags, descriptor, 0);
        return address != -1 ? new MappedMemory(address, length) : throw NativeError.Last($"mmap of {length} bytes");
    }

    private static partial class Libc
    {
        internal const int ProtRead = 1;
        internal const int ProtWrite = 2;
        internal const int MapShared = 1;
        internal const int MapPrivate = 2;
        internal const int MapAnonymous = 0x20;

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        internal static partial nint Map(nint address, nuint length, int protection, int flags, int descriptor, long offset);

        [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
        internal static partial int Unmap(nint address, nuint length);
    }
}
