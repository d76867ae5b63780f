// The data plane's frames, as docs/PROTOCOL.md section 3 lays them down. Everything here works on spans, allocates nothing for a page and trusts
// nothing: a decoder answers every input with a value or with an error value, and checks lengths before anything is taken from them.
//
//   connection:  Hello ─▶ ◀─ HelloReply, then frames both ways
//   frame:       ┌ header 32 bytes ─────────────────────────────────────────────┐┌ body ────────────────────┐
//                │kind flags table│body length│sequence u64│argument u64│check u64││ table (Pages) │ page data │
//                └──u8───u8───u16─┴────u32────┴────────────┴────────────┴─────────┘└──────────────────────────┘
//
// The check covers the header (with the check field zero) and, of a Pages frame, the table; of any other frame, the whole body. The data of
// pages is covered by the digests in the table. Computing the check is the transport's business: this project links to no native code.
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Fabric.Core;

namespace Fabric.Wire.Data;

/// <summary>Which of a migration's connections this is. The value is on the wire.</summary>
public enum ChannelKind : byte
{
    Control = 1,
    Urgent = 2,
    Bulk = 3,
}

/// <summary>The closed set of frames. The value is on the wire; 7 is retired.</summary>
public enum FrameKind : byte
{
    Terms = 1,
    TermsAccepted = 2,
    Pages = 3,
    Barrier = 4,
    BarrierReached = 5,
    MissingMap = 6,
    DeviceState = 8,
    Digests = 9,
    Finish = 10,
    Ready = 11,
    NotReady = 12,
    Token = 13,
    Running = 14,
    TokenRefused = 15,
    Want = 16,
    PullDone = 17,
    Ping = 18,
    Pong = 19,
    Bye = 20,
    LackMap = 21,
    Stopping = 22,
}

/// <summary>Bits of <see cref="FrameHeader.Flags"/> of a Pages frame.</summary>
[Flags]
public enum PageFlags
{
    None = 0,

    /// <summary>The VM stands and nothing writes its memory any more: every digest must match at once.</summary>
    Frozen = 1,

    /// <summary>The pages belong to the pull: they are installed for a running guest.</summary>
    Pull = 2,

    /// <summary>The pages were asked for, and are sent for that reason.</summary>
    Wanted = 4,
}

/// <summary>The 32 bytes before every body. <paramref name="TableLength"/>: bytes of the table at the head of a Pages body, else 0.</summary>
public readonly record struct FrameHeader(FrameKind Kind, byte Flags, int TableLength, int BodyLength, ulong Sequence, ulong Argument, ulong Check)
{
    public const int Size = 32;

    /// <summary>Where the check is in the header; these 8 bytes count as zero while it is computed.</summary>
    public const int CheckOffset = 24;

    /// <summary>Most bytes of a body that is not pages.</summary>
    public const int SmallBody = 64 * 1024;

    /// <summary>Most bytes of a body of pages.</summary>
    public const int PagesBody = PageTable.MaxSize + (Limits.PagesPerFrame * VmSpec.PageSize);

    /// <summary>Bytes that the check covers, the header included.</summary>
    public int CheckedLength => Size + (Kind == FrameKind.Pages ? TableLength : BodyLength);

    /// <param name="destination">At least <see cref="Size"/> bytes. The check is written as given.</param>
    public void Write(Span<byte> destination)
    {
        destination[0] = (byte)Kind;
        destination[1] = Flags;
        BinaryPrimitives.WriteUInt16LittleEndian(destination[2..], (ushort)TableLength);
        BinaryPrimitives.WriteUInt32LittleEndian(destination[4..], (uint)BodyLength);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[8..], Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[16..], Argument);
        BinaryPrimitives.WriteUInt64LittleEndian(destination[CheckOffset..], Check);
    }

    /// <summary>Reads a header. Accepts only kinds that exist, with a body no longer than that kind's bound.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, out FrameHeader header, [NotNullWhen(false)] out FabricError? error)
    {
        header = default;
        if (source.Length < Size)
            return Refuse.As($"a frame header of {source.Length} bytes; it has {Size}", out error);
        FrameHeader read = new(
            (FrameKind)source[0],
            source[1],
            BinaryPrimitives.ReadUInt16LittleEndian(source[2..]),
            unchecked((int)BinaryPrimitives.ReadUInt32LittleEndian(source[4..])),
            BinaryPrimitives.ReadUInt64LittleEndian(source[8..]),
            BinaryPrimitives.ReadUInt64LittleEndian(source[16..]),
            BinaryPrimitives.ReadUInt64LittleEndian(source[CheckOffset..]));
        if (!TryBound(read.Kind, out int least, out int most))
            return Refuse.As($"frame kind {source[0]}, which does not exist", out error);
        if (read.BodyLength < least || read.BodyLength > most)
            return Refuse.As($"a {read.Kind} frame with a body of {(uint)read.BodyLength} bytes; it has {least} to {most}", out error);
        bool tableFits = read.Kind == FrameKind.Pages
            ? read.TableLength is >= PageTable.MinSize and <= PageTable.MaxSize && read.TableLength <= read.BodyLength
            : read.TableLength == 0;
        if (!tableFits)
            return Refuse.As($"a {read.Kind} frame with a table of {read.TableLength} bytes", out error);
        header = read;
        error = null;
        return true;
    }

    /// <summary>The bounds of a kind's body in bytes; false for a kind that does not exist.</summary>
    public static bool TryBound(FrameKind kind, out int least, out int most)
    {
        (least, most) = kind switch
        {
            FrameKind.Terms => (TermsBody.Size, TermsBody.Size),
            FrameKind.Pages => (PageTable.MinSize, PagesBody),
            FrameKind.MissingMap or FrameKind.LackMap => (8, SmallBody),
            FrameKind.DeviceState => (1, SmallBody),
            FrameKind.Digests => (DigestPiece.DigestSize, SmallBody),
            FrameKind.Finish => (FinishBody.Size, FinishBody.Size),
            FrameKind.NotReady or FrameKind.TokenRefused or FrameKind.Bye => (ErrorText.MinSize, ErrorText.MaxSize),
            FrameKind.Running => (16, 16),
            FrameKind.Want => (8, WantList.MaxPages * 8),
            FrameKind.PullDone => (1, 1),
            FrameKind.TermsAccepted or FrameKind.Barrier or FrameKind.BarrierReached or FrameKind.Ready or FrameKind.Token
                or FrameKind.Ping or FrameKind.Pong or FrameKind.Stopping => (0, 0),
            _ => (-1, -1),
        };
        return least >= 0;
    }
}

/// <summary>One way to say "malformed".</summary>
internal static class Refuse
{
    internal static bool As(string what, out FabricError error)
    {
        error = new FabricError(ErrorCodes.Malformed, $"The peer sent {what}.");
        return false;
    }
}
