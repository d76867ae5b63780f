using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// Writes the pages of a frame so that they are shorter: the difference from what the destination holds where that is known, and all of it packed as one block. It works on copies, since the
/// guest may write its memory meanwhile; so what is sent is exactly what is kept. One thread, that of its sender; nothing is allocated for a page or a frame.
/// </summary>
internal sealed class PagePacker : IDisposable
{
    private readonly BlockCodecs _codecs;
    private readonly int _pageSize;
    private readonly MappedMemory _pages;
    private readonly MappedMemory _packed;
    private int _filled;

    /// <param name="agreed">What both ends can do.</param>
    /// <param name="pageSize">Bytes.</param>
    public PagePacker(Packings agreed, int pageSize)
    {
        _pageSize = pageSize;
        _codecs = new BlockCodecs(agreed);
        _pages = MappedMemory.Anonymous((long)Limits.PagesPerFrame * pageSize);
        _packed = MappedMemory.Anonymous((long)Limits.PagesPerFrame * pageSize);
    }

    public void Clear() => _filled = 0;

    /// <summary>Copies a page behind those before it; where the copy is.</summary>
    public nint Add(IGuestMemory memory, long page)
    {
        nint copy = _pages.Address + _filled;
        if (!memory.TryRead(new PageRun(page, 1), copy))
            PageBytes.Copy(memory.Address + (nint)(page * _pageSize), copy, _pageSize);
        _filled += _pageSize;
        return copy;
    }

    /// <summary>The page that was added last is not sent.</summary>
    public void TakeBack() => _filled -= _pageSize;

    /// <summary>Packs what was added. What does not become smaller is sent as it is.</summary>
    /// <param name="wanted">How.</param>
    /// <param name="data">Where the bytes to send are; valid until the next call.</param>
    /// <param name="length">How many.</param>
    public Packing Finish(Packing wanted, out nint data, out int length)
    {
        var codec = _codecs.For(wanted);
        length = codec is null || _filled == 0 ? 0 : codec.Pack(_pages.Address, _filled, _packed.Address, _filled - 1);
        if (length > 0)
        {
            data = _packed.Address;
            return wanted;
        }

        (data, length) = (_pages.Address, _filled);
        return _filled > 0 ? Packing.Stored : Packing.None;
    }

    public void Dispose()
    {
        _codecs.Dispose();
        _pages.Dispose();
        _packed.Dispose();
    }
}
