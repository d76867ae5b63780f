using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// A region of memory outside the garbage collector: a shared mapping of a file (a guest's RAM) or anonymous pages (staging).
/// Owned by whoever made it; <see cref="Dispose"/> unmaps, after which the address must not be used. Threads that may use the address when its owner lets go
/// of it hold a <see cref="Pin"/> meanwhile: the pages then stay until the last of them is gone. Reading unmapped pages ends the process.
/// </summary>
public sealed partial class MappedMemory : IDisposable
{
    private readonly Lock _gate = new();
    private nint _address;
    private int _pins; // under _gate
    private bool _released; // under _gate

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

    /// <summary>Keeps the pages mapped until the result is disposed, whatever their owner does. Any thread.</summary>
    /// <exception cref="FabricException">machine-failed: the owner has let go of them already.</exception>
    public IDisposable Pin()
    {
        lock (_gate)
        {
            if (_released)
                throw new FabricException(ErrorCodes.MachineFailed, "The memory has been let go of: its machine is gone.");
            _pins++;
            return new PinOf(this);
        }
    }

    /// <summary>Unmaps, at once or when the last pin is gone. Idempotent.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_released)
                return;
            _released = true;
            if (_pins > 0)
                return;
        }

        Unmap();
    }

    private void Unpin()
    {
        lock (_gate)
        {
            if (--_pins > 0 || !_released)
                return;
        }

        Unmap();
    }

    private void Unmap()
    {
        nint address = Interlocked.Exchange(ref _address, 0);
        if (address != 0 && Libc.Unmap(address, (nuint)Length) != 0)
            throw NativeError.Last($"munmap of {Length} bytes");
    }

    private sealed class PinOf(MappedMemory memory) : IDisposable
    {
        private MappedMemory? _memory = memory;

        public void Dispose() => Interlocked.Exchange(ref _memory, null)?.Unpin();
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
