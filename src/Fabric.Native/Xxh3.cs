using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>
/// XXH3 (Y. Collet's non-cryptographic hash, xxhash.com) from the system's libxxhash.so.0 (0.8 or later, where XXH3's output is frozen).
/// It finds damage and mistakes, not malice: a hostile peer is kept out by tickets and transport security.
/// </summary>
public static unsafe class Xxh3
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

    /// <summary>
    /// The plain functions of a distribution's library are compiled for the oldest processor it supports; the ones that look for the vector unit of this one give the same digests in a third of
    /// the time. They are there where the library was built with them, which on x86-64 it usually is.
    /// </summary>
    private static class Library
    {
        private const string Name = "libxxhash.so.0";

        internal static readonly delegate* unmanaged<void*, nuint, ulong> Hash64 = (delegate* unmanaged<void*, nuint, ulong>)Find("XXH3_64bits");

        internal static readonly delegate* unmanaged<void*, nuint, Hash> Hash128 = (delegate* unmanaged<void*, nuint, Hash>)Find("XXH3_128bits");

        // Loaded for as long as the process lives: the pointers stay true.
        private static nint Find(string function)
        {
            nint library = NativeLibrary.Load(Name, typeof(Xxh3).Assembly, null);
            return NativeLibrary.TryGetExport(library, function + "_dispatch", out nint found) ? found : NativeLibrary.GetExport(library, function);
        }
    }
}
