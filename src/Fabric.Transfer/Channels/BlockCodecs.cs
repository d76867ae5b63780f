using Fabric.Native;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Channels;

/// <summary>The codecs that both ends agreed on, each made when it is first asked for. One thread.</summary>
internal sealed class BlockCodecs(Packings agreed) : IDisposable
{
    private BlockCodec? _lz4;
    private BlockCodec? _zstd;

    /// <summary>What this machine's libraries allow.</summary>
    public static Packings Available { get; } =
        Packings.Delta | (BlockCodec.HasLz4 ? Packings.Lz4 : Packings.None) | (BlockCodec.HasZstd ? Packings.Zstd : Packings.None);

    /// <summary>Null for what was not agreed on, and for what needs no codec.</summary>
    public BlockCodec? For(Packing packing) => packing switch
    {
        Packing.Lz4 when (agreed & Packings.Lz4) != Packings.None => _lz4 ??= BlockCodec.TryLz4(),
        Packing.Zstd when (agreed & Packings.Zstd) != Packings.None => _zstd ??= BlockCodec.TryZstd(),
        _ => null,
    };

    public void Dispose()
    {
        _lz4?.Dispose();
        _zstd?.Dispose();
    }
}
