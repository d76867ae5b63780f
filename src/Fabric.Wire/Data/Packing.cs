namespace Fabric.Wire.Data;

/// <summary>How the data of a Pages frame is written. The value is on the wire.</summary>
public enum Packing : byte
{
    /// <summary>Page after page as they are. No delta is among them.</summary>
    None = 0,

    /// <summary>Page after page, deltas among them.</summary>
    Stored = 1,

    /// <summary>All of it, as <see cref="Stored"/>, as one LZ4 block.</summary>
    Lz4 = 2,

    /// <summary>All of it, as <see cref="Stored"/>, as one Zstandard frame.</summary>
    Zstd = 3,
}

/// <summary>What a source may use, as both ends agreed. The bits are on the wire.</summary>
[Flags]
public enum Packings : byte
{
    None = 0,
    Delta = 1,
    Lz4 = 2,
    Zstd = 4,
}
