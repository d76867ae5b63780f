using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>
/// XXH3 (Y. Collet's non-cryptographic hash, xxhash.com) from the system's libxxhash.so.0 (0.8 or later, where XXH3's output is frozen).
/// It finds damage and mistakes, not malice: a hostile peer is kept out by tickets and transport security.
/// </summary>
public static unsafe partial class Xxh3
{
    public static ulong Hash64(nint address, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        // SAFETY: the caller vouches for the range; the call only reads.
        return Library.Hash64((void*)address, (nuint)length);
    }

    public static ulong Hash64(ReadOnlySpan<byte> bytes)
    {
        // SAFETY: pinned for the duration of the call.
        fixed (byte* pointer = bytes)
            return Library.Hash64(pointer, (nuint)bytes.Length);
    }

    public static UInt128 Hash128(nint address, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        // SAFETY: the caller vouches for the range; the call only reads.
        Hash hash = Library.Hash128((void*)address, (nuint)length);
        return new UInt128(hash.High, hash.Low);
    }

    public static UInt128 Hash128(ReadOnlySpan<byte> bytes)
    {
        // SAFETY: pinned for the duration of the call.
        fixed (byte* pointer = bytes)
        {
            Hash hash = Library.Hash128(pointer, (nuint)bytes.Length);
            return new UInt128(hash.High, hash.Low);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Hash
    {
        internal ulong Low;
        internal ulong High;
    }

    private static partial class Library
    {
        [LibraryImport("libxxhash.so.0", EntryPoint = "XXH3_64bits")]
        internal static partial ulong Hash64(void* data, nuint length);

        [LibraryImport("libxxhash.so.0", EntryPoint = "XXH3_128bits")]
        internal static partial Hash Hash128(void* data, nuint length);
    }
}
