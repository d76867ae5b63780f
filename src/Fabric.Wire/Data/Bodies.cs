using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Wire.Data;

/// <summary>What the source proposes. Body of Terms. Of <paramref name="Packings"/> the destination accepts what it can unpack: the argument of TermsAccepted.</summary>
public readonly record struct TermsBody(int PageSize, long PageCount, int BulkConnections, VerifyLevel Verify, bool Resume, Packings Packings = Packings.None)
{
    public const int Size = 32;
    private const Packings AllPackings = Packings.Delta | Packings.Lz4 | Packings.Zstd;

    public void Write(Span<byte> destination)
    {
        destination[..Size].Clear();
        BinaryPrimitives.WriteInt32LittleEndian(destination, PageSize);
        BinaryPrimitives.WriteUInt16LittleEndian(destination[4..], (ushort)BulkConnections);
        destination[6] = (byte)Verify;
        destination[7] = Resume ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteInt64LittleEndian(destination[8..], PageCount);
        destination[16] = (byte)Packings;
    }

    public static bool TryDecode(ReadOnlySpan<byte> source, out TermsBody terms, [NotNullWhen(false)] out FabricError? error)
    {
        terms = default;
        if (source.Length != Size)
            return Refuse.As($"terms of {source.Length} bytes", out error);
        TermsBody read = new(
            BinaryPrimitives.ReadInt32LittleEndian(source),
            BinaryPrimitives.ReadInt64LittleEndian(source[8..]),
            BinaryPrimitives.ReadUInt16LittleEndian(source[4..]),
            (VerifyLevel)source[6],
            source[7] == 1,
            (Packings)source[16]);
        if (read.PageSize != VmSpec.PageSize || read.PageCount is < 1 or > 1L << 36 || read.BulkConnections is < 1 or > Limits.BulkConnections
            || !Enum.IsDefined(read.Verify) || source[7] > 1 || (read.Packings & ~AllPackings) != Packings.None || source[17..].ContainsAnyExcept((byte)0))
            return Refuse.As($"terms that cannot be: {read}", out error);
        terms = read;
        error = null;
        return true;
    }
}

/// <summary>
/// The VM runs. Body of Running. <paramref name="Resume"/>: from the token's arrival until it ran. <paramref name="Running"/>: since then, until
/// this was sent. Microseconds on the wire.
/// </summary>
public readonly record struct RunningBody(TimeSpan Resume, TimeSpan Running)
{
    public const int Size = 16;
    private static readonly TimeSpan Most = TimeSpan.FromHours(1);

    public void Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteInt64LittleEndian(destination, Micros(Resume));
        BinaryPrimitives.WriteInt64LittleEndian(destination[8..], Micros(Running));
    }

    public static bool TryDecode(ReadOnlySpan<byte> source, out RunningBody running, [NotNullWhen(false)] out FabricError? error)
    {
        running = default;
        if (source.Length != Size)
            return Refuse.As($"a word that the VM runs of {source.Length} bytes", out error);
        long resume = BinaryPrimitives.ReadInt64LittleEndian(source);
        long since = BinaryPrimitives.ReadInt64LittleEndian(source[8..]);
        if (resume < 0 || resume > Micros(Most) || since < 0 || since > Micros(Most))
            return Refuse.As($"a resume in {resume} us, {since} us ago", out error);
        running = new RunningBody(TimeSpan.FromMicroseconds(resume), TimeSpan.FromMicroseconds(since));
        error = null;
        return true;
    }

    private static long Micros(TimeSpan time) => Math.Max(0, (long)time.TotalMicroseconds);
}

/// <summary>
/// Everything of the hand-over is on its way. Body of Finish. <paramref name="LastBarrier"/>: what the destination must have reached on all
/// bulk connections before it may go on. <paramref name="MissingPages"/>: set bits of the whole missing map; 0 when nothing is pulled.
/// </summary>
public readonly record struct FinishBody(bool Pull, long StateLength, UInt128 StateDigest, long LastBarrier, long MissingPages)
{
    public const int Size = 48;

    public void Write(Span<byte> destination)
    {
        destination[..Size].Clear();
        BinaryPrimitives.WriteInt64LittleEndian(destination, StateLength);
        BinaryPrimitives.WriteUInt128LittleEndian(destination[8..], StateDigest);
        BinaryPrimitives.WriteInt64LittleEndian(destination[24..], LastBarrier);
        BinaryPrimitives.WriteInt64LittleEndian(destination[32..], MissingPages);
        destination[40] = Pull ? (byte)1 : (byte)0;
    }

    public static bool TryDecode(ReadOnlySpan<byte> source, out FinishBody finish, [NotNullWhen(false)] out FabricError? error)
    {
        finish = default;
        if (source.Length != Size)
            return Refuse.As($"a finish of {source.Length} bytes", out error);
        FinishBody read = new(
            source[40] == 1,
            BinaryPrimitives.ReadInt64LittleEndian(source),
            BinaryPrimitives.ReadUInt128LittleEndian(source[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(source[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(source[32..]));
        if (read.StateLength is < 0 or > Limits.DeviceStateBytes || read.LastBarrier < 0 || read.MissingPages is < 0 or > 1L << 36
            || (!read.Pull && read.MissingPages != 0) || source[40] > 1 || source[41..].ContainsAnyExcept((byte)0))
            return Refuse.As($"a finish that cannot be: {read}", out error);
        finish = read;
        error = null;
        return true;
    }
}

/// <summary>A piece of a page bitmap: whole words; the frame's argument is the first word. Pieces without a set bit are not sent.</summary>
public static class MapPiece
{
    public const int MaxWords = FrameHeader.SmallBody / 8;

    /// <summary>Ors the piece into <paramref name="words"/>. Refuses bits beyond the VM.</summary>
    public static bool TryMerge(ReadOnlySpan<byte> source, ulong firstWord, long vmPages, Span<ulong> words, [NotNullWhen(false)] out FabricError? error)
    {
        int count = source.Length / 8;
        if (source.Length == 0 || (source.Length & 7) != 0 || firstWord > (ulong)words.Length || count > words.Length - (int)firstWord)
            return Refuse.As($"a map piece of {source.Length} bytes at word {firstWord} for {words.Length} words", out error);
        int tail = (int)(vmPages & 63);
        if (tail != 0 && (int)firstWord + count == words.Length && BinaryPrimitives.ReadUInt64LittleEndian(source[((count - 1) * 8)..]) >> tail != 0)
            return Refuse.As($"a map piece that names pages beyond the VM's {vmPages}", out error);
        for (int i = 0; i < count; i++)
            words[(int)firstWord + i] |= BinaryPrimitives.ReadUInt64LittleEndian(source[(i * 8)..]);
        error = null;
        return true;
    }

    /// <summary>Returns the bytes written.</summary>
    public static int Write(ReadOnlySpan<ulong> words, Span<byte> destination)
    {
        for (int i = 0; i < words.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(destination[(i * 8)..], words[i]);
        return words.Length * 8;
    }
}

/// <summary>Pages that the destination's guest waits for. Body of Want: 1 to 512 page numbers.</summary>
public static class WantList
{
    public const int MaxPages = 512;

    /// <summary>Reads into <paramref name="pages"/> (at least <see cref="MaxPages"/> long).</summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, long vmPages, Span<long> pages, out int count, [NotNullWhen(false)] out FabricError? error)
    {
        count = 0;
        if (source.Length is < 8 or > MaxPages * 8 || (source.Length & 7) != 0)
            return Refuse.As($"a list of wanted pages of {source.Length} bytes", out error);
        for (int i = 0; i < source.Length / 8; i++)
        {
            long page = BinaryPrimitives.ReadInt64LittleEndian(source[(i * 8)..]);
            if (page < 0 || page >= vmPages)
                return Refuse.As($"wanted page {page} of a VM of {vmPages}", out error);
            pages[i] = page;
        }

        count = source.Length / 8;
        error = null;
        return true;
    }

    public static int Write(ReadOnlySpan<long> pages, Span<byte> destination)
    {
        for (int i = 0; i < pages.Length; i++)
            BinaryPrimitives.WriteInt64LittleEndian(destination[(i * 8)..], pages[i]);
        return pages.Length * 8;
    }
}

/// <summary>
/// XXH3-128 digests of consecutive pages. Body of Digests; the frame's argument is the first page, a multiple of <see cref="PagesPerPiece"/>.
/// Every piece but the VM's last is full.
/// </summary>
public static class DigestPiece
{
    public const int DigestSize = 16;
    public const int PagesPerPiece = FrameHeader.SmallBody / DigestSize;

    /// <summary>Checks place and length; digests are then read with <see cref="Read"/>.</summary>
    public static bool TryCheck(int bodyLength, ulong firstPage, long vmPages, out PageRun run, [NotNullWhen(false)] out FabricError? error)
    {
        run = default;
        if (firstPage >= (ulong)vmPages || firstPage % PagesPerPiece != 0 || bodyLength != DigestSize * Math.Min(PagesPerPiece, vmPages - (long)firstPage))
            return Refuse.As($"{bodyLength} bytes of digests from page {firstPage} of a VM of {vmPages}", out error);
        run = new PageRun((long)firstPage, bodyLength / DigestSize);
        error = null;
        return true;
    }

    public static UInt128 Read(ReadOnlySpan<byte> source, int index) => BinaryPrimitives.ReadUInt128LittleEndian(source[(index * DigestSize)..]);

    public static void Write(Span<byte> destination, int index, UInt128 digest) => BinaryPrimitives.WriteUInt128LittleEndian(destination[(index * DigestSize)..], digest);
}
