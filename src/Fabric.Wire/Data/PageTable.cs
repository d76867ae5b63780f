using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Fabric.Core;

namespace Fabric.Wire.Data;

/// <summary>
/// A checked view of the table of a Pages frame: runs of pages in ascending order, zero or with data or with a delta, and one digest per page that is not zero.
/// It points into the receive buffer: use it before the next frame is read.
/// </summary>
public readonly ref struct PageTable
{
    public const int HeadSize = 8;
    public const int RunSize = 16;
    public const int MinSize = HeadSize + RunSize;
    public const int MaxSize = HeadSize + (Limits.PagesPerFrame * (RunSize + 8));

    private readonly ReadOnlySpan<byte> _table;

    private PageTable(ReadOnlySpan<byte> table, Packing packing, int runs, int pages, int dataPages, int dataLength)
    {
        _table = table;
        Packing = packing;
        RunCount = runs;
        PageCount = pages;
        DataPages = dataPages;
        DataLength = dataLength;
    }

    public Packing Packing { get; }

    public int RunCount { get; }

    /// <summary>Pages of all runs.</summary>
    public int PageCount { get; }

    /// <summary>Pages that are not zero, deltas among them.</summary>
    public int DataPages { get; }

    /// <summary>Bytes that follow the table.</summary>
    public int DataLength { get; }

    /// <summary>Whether the pages of a run come as their difference (XOR) from what the destination holds.</summary>
    public bool IsDelta(int index) => BinaryPrimitives.ReadUInt32LittleEndian(_table[(HeadSize + (index * RunSize) + 12)..]) == PageTableBuilder.DeltaRun;

    public PageRun Run(int index, out bool zero)
    {
        ReadOnlySpan<byte> at = _table.Slice(HeadSize + (index * RunSize), RunSize);
        zero = BinaryPrimitives.ReadUInt32LittleEndian(at[12..]) == PageTableBuilder.ZeroRun;
        return new PageRun(BinaryPrimitives.ReadInt64LittleEndian(at), BinaryPrimitives.ReadInt32LittleEndian(at[8..]));
    }

    /// <summary>XXH3-64 of a data page, counted over the data pages of the frame.</summary>
    public ulong Digest(int dataPage) => BinaryPrimitives.ReadUInt64LittleEndian(_table[(HeadSize + (RunCount * RunSize) + (dataPage * 8))..]);

    /// <summary>
    /// Checks everything about a table that can be wrong: lengths, order, overlap, and that all pages lie inside a VM of
    /// <paramref name="vmPages"/> pages. <paramref name="bodyLength"/> is the frame's.
    /// </summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, int bodyLength, long vmPages, int pageSize, out PageTable table, [NotNullWhen(false)] out FabricError? error)
    {
        table = default;
        if (source.Length is < MinSize or > MaxSize)
            return Refuse.As($"a page table of {source.Length} bytes", out error);
        int runs = BinaryPrimitives.ReadUInt16LittleEndian(source);
        int pages = BinaryPrimitives.ReadUInt16LittleEndian(source[2..]);
        uint packing = BinaryPrimitives.ReadUInt32LittleEndian(source[4..]);
        if (runs < 1 || runs > pages || pages > Limits.PagesPerFrame || source.Length < HeadSize + (runs * RunSize) || packing > (uint)Packing.Zstd)
            return Refuse.As($"a page table of {runs} runs and {pages} pages in {source.Length} bytes (packing {packing})", out error);
        uint kinds = packing == (uint)Packing.None ? PageTableBuilder.ZeroRun : PageTableBuilder.DeltaRun;
        long next = 0;
        int counted = 0;
        int data = 0;
        for (int i = 0; i < runs; i++)
        {
            ReadOnlySpan<byte> at = source.Slice(HeadSize + (i * RunSize), RunSize);
            long first = BinaryPrimitives.ReadInt64LittleEndian(at);
            int count = BinaryPrimitives.ReadInt32LittleEndian(at[8..]);
            uint kind = BinaryPrimitives.ReadUInt32LittleEndian(at[12..]);
            if (first < next || count < 1 || count > pages - counted || first > vmPages - count || kind > kinds)
                return Refuse.As($"run {i} of pages {first} + {count} (kind {kind}), which is out of order, too long or outside the VM's {vmPages} pages", out error);
            next = first + count;
            counted += count;
            data += kind == PageTableBuilder.ZeroRun ? 0 : count;
        }

        if (counted != pages || source.Length != HeadSize + (runs * RunSize) + (data * 8) || !Fits((Packing)packing, bodyLength - source.Length, (long)data * pageSize))
            return Refuse.As($"a page table that names {counted} pages ({data} with data) in a frame for {pages} with {bodyLength} bytes", out error);
        table = new PageTable(source, (Packing)packing, runs, pages, data, bodyLength - source.Length);
        error = null;
        return true;
    }

    // What packing does not make smaller is sent as it is.
    private static bool Fits(Packing packing, int length, long whole) =>
        packing is Packing.None or Packing.Stored ? length == whole : length > 0 && length < whole;
}

/// <summary>Builds the table of one frame after another in memory made once. One thread at a time; pages are added in ascending order.</summary>
public sealed class PageTableBuilder
{
    internal const uint DataRun = 0;
    internal const uint ZeroRun = 1;
    internal const uint DeltaRun = 2;

    private readonly long[] _first = new long[Limits.PagesPerFrame];
    private readonly int[] _count = new int[Limits.PagesPerFrame];
    private readonly uint[] _kind = new uint[Limits.PagesPerFrame];
    private readonly ulong[] _digests = new ulong[Limits.PagesPerFrame];

    public int Runs { get; private set; }

    public int Pages { get; private set; }

    /// <summary>Pages that are not zero, deltas among them.</summary>
    public int DataPages { get; private set; }

    public int DeltaPages { get; private set; }

    /// <summary>How the data is written that follows the table.</summary>
    public Packing Packing { get; set; }

    public int TableLength => PageTable.HeadSize + (Runs * PageTable.RunSize) + (DataPages * 8);

    public void Clear()
    {
        Runs = Pages = DataPages = DeltaPages = 0;
        Packing = Packing.None;
    }

    public PageRun Run(int index, out bool zero)
    {
        zero = _kind[index] == ZeroRun;
        return new PageRun(_first[index], _count[index]);
    }

    public void AddData(long page, ulong digest)
    {
        Add(page, DataRun);
        _digests[DataPages++] = digest;
    }

    /// <param name="digest">Of the page itself, not of the difference.</param>
    public void AddDelta(long page, ulong digest)
    {
        Add(page, DeltaRun);
        _digests[DataPages++] = digest;
        DeltaPages++;
    }

    public void AddZero(long page) => Add(page, ZeroRun);

    /// <summary>Writes <see cref="TableLength"/> bytes.</summary>
    public void Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(destination, (ushort)Runs);
        BinaryPrimitives.WriteUInt16LittleEndian(destination[2..], (ushort)Pages);
        BinaryPrimitives.WriteUInt32LittleEndian(destination[4..], (uint)Packing);
        for (int i = 0; i < Runs; i++)
        {
            Span<byte> at = destination.Slice(PageTable.HeadSize + (i * PageTable.RunSize), PageTable.RunSize);
            BinaryPrimitives.WriteInt64LittleEndian(at, _first[i]);
            BinaryPrimitives.WriteInt32LittleEndian(at[8..], _count[i]);
            BinaryPrimitives.WriteUInt32LittleEndian(at[12..], _kind[i]);
        }

        Span<byte> digests = destination[(PageTable.HeadSize + (Runs * PageTable.RunSize))..];
        for (int i = 0; i < DataPages; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(digests[(i * 8)..], _digests[i]);
    }

    private void Add(long page, uint kind)
    {
        if (Pages == Limits.PagesPerFrame)
            throw new InvalidOperationException($"A frame has at most {Limits.PagesPerFrame} pages.");
        Pages++;
        int last = Runs - 1;
        if (last >= 0 && _kind[last] == kind && _first[last] + _count[last] == page)
        {
            _count[last]++;
            return;
        }

        if (last >= 0 && page < _first[last] + _count[last])
            throw new ArgumentOutOfRangeException(nameof(page), page, "Pages of a frame ascend.");
        _first[Runs] = page;
        _count[Runs] = 1;
        _kind[Runs] = kind;
        Runs++;
    }
}
