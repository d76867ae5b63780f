using System.Runtime.InteropServices;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>
/// Packs blocks of bytes with one of the system's libraries. One thread at a time; both directions keep their working memory, so nothing is allocated for a block. Input that is hostile is refused:
/// both libraries check every bound while they unpack.
/// </summary>
public abstract class BlockCodec : IDisposable
{
    /// <summary>Whether this machine's loader finds liblz4.so.1.</summary>
    public static bool HasLz4 { get; } = NativeLibrary.TryLoad(Lz4Codec.Library, out _);

    /// <summary>Whether this machine's loader finds libzstd.so.1.</summary>
    public static bool HasZstd { get; } = NativeLibrary.TryLoad(ZstdCodec.Library, out _);

    /// <summary>LZ4: some 500 MB/s and more a core. Null where the library is not there.</summary>
    public static BlockCodec? TryLz4() => HasLz4 ? new Lz4Codec() : null;

    /// <summary>Zstandard at its level 1: smaller and slower than LZ4. Null where the library is not there.</summary>
    public static BlockCodec? TryZstd() => HasZstd ? new ZstdCodec() : null;

    /// <summary>Packs <paramref name="count"/> bytes. Returns the bytes written, or 0 if they do not fit into <paramref name="room"/>.</summary>
    /// <param name="from">Nobody may write there meanwhile.</param>
    public abstract int Pack(nint from, int count, nint to, int room);

    /// <summary>False if the <paramref name="count"/> bytes do not unpack into exactly <paramref name="expected"/>; what is then at <paramref name="to"/> is undefined.</summary>
    public abstract bool TryUnpack(nint from, int count, nint to, int expected);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <inheritdoc cref="BlockCodec"/>
internal sealed partial class Lz4Codec : BlockCodec
{
    internal const string Library = "liblz4.so.1";
    private readonly MappedMemory _work = MappedMemory.Anonymous(Lz4.StateSize());

    public override int Pack(nint from, int count, nint to, int room) => Lz4.Compress(_work.Address, from, to, count, room, 1);

    public override bool TryUnpack(nint from, int count, nint to, int expected) => Lz4.Decompress(from, to, count, expected) == expected;

    protected override void Dispose(bool disposing) => _work.Dispose();

    private static partial class Lz4
    {
        [LibraryImport(Library, EntryPoint = "LZ4_sizeofState")]
        internal static partial int StateSize();

        [LibraryImport(Library, EntryPoint = "LZ4_compress_fast_extState")]
        internal static partial int Compress(nint state, nint from, nint to, int count, int room, int acceleration);

        [LibraryImport(Library, EntryPoint = "LZ4_decompress_safe")]
        internal static partial int Decompress(nint from, nint to, int count, int room);
    }
}

/// <inheritdoc cref="BlockCodec"/>
internal sealed partial class ZstdCodec : BlockCodec
{
    internal const string Library = "libzstd.so.1";
    private const int Level = 1;

    // Each is made when it is first needed: an end packs or unpacks, seldom both.
    private nint _packer;
    private nint _unpacker;

    public override int Pack(nint from, int count, nint to, int room)
    {
        if (_packer == 0)
            _packer = Made(Zstd.MakePacker());
        nuint packed = Zstd.Compress(_packer, to, (nuint)room, from, (nuint)count, Level);
        return Zstd.IsError(packed) == 0 ? (int)packed : 0;
    }

    public override bool TryUnpack(nint from, int count, nint to, int expected)
    {
        if (_unpacker == 0)
            _unpacker = Made(Zstd.MakeUnpacker());
        return Zstd.Decompress(_unpacker, to, (nuint)expected, from, (nuint)count) == (nuint)expected;
    }

    protected override void Dispose(bool disposing)
    {
        // Both accept null.
        _ = Zstd.FreePacker(Interlocked.Exchange(ref _packer, 0));
        _ = Zstd.FreeUnpacker(Interlocked.Exchange(ref _unpacker, 0));
    }

    private static nint Made(nint context) => context != 0 ? context : throw new FabricException(ErrorCodes.Native, "libzstd could not make its working memory.");

    private static partial class Zstd
    {
        [LibraryImport(Library, EntryPoint = "ZSTD_createCCtx")]
        internal static partial nint MakePacker();

        [LibraryImport(Library, EntryPoint = "ZSTD_freeCCtx")]
        internal static partial nuint FreePacker(nint context);

        [LibraryImport(Library, EntryPoint = "ZSTD_compressCCtx")]
        internal static partial nuint Compress(nint context, nint to, nuint room, nint from, nuint count, int level);

        [LibraryImport(Library, EntryPoint = "ZSTD_createDCtx")]
        internal static partial nint MakeUnpacker();

        [LibraryImport(Library, EntryPoint = "ZSTD_freeDCtx")]
        internal static partial nuint FreeUnpacker(nint context);

        [LibraryImport(Library, EntryPoint = "ZSTD_decompressDCtx")]
        internal static partial nuint Decompress(nint context, nint to, nuint room, nint from, nuint count);

        [LibraryImport(Library, EntryPoint = "ZSTD_isError")]
        internal static partial uint IsError(nuint code);
    }
}
