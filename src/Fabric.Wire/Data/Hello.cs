using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using Fabric.Core;

namespace Fabric.Wire.Data;

/// <summary>The first bytes of every connection, from the source: which migration, which of its connections, and the secret that lets it in.</summary>
public readonly record struct Hello(ChannelKind Channel, int Index, MigrationId Migration, ReadOnlyMemory<byte> Ticket)
{
    public const int Size = 64;
    public const uint Magic = 0x43524246; // "FBRC" in memory order
    public const ushort Version = 1;
    public const int TicketSize = 32;

    public void Write(Span<byte> destination)
    {
        destination[..Size].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(destination, Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(destination[4..], Version);
        destination[6] = (byte)Channel;
        destination[7] = (byte)Index;
        Migration.Value.TryWriteBytes(destination[8..], bigEndian: true, out _);
        Ticket.Span[..TicketSize].CopyTo(destination[24..]);
    }

    /// <summary>True if the first four bytes are the magic: what follows is meant for this port.</summary>
    public static bool BeginsWithMagic(ReadOnlySpan<byte> source) =>
        source.Length >= 4 && BinaryPrimitives.ReadUInt32LittleEndian(source) == Magic;

    /// <summary>Error codes: malformed; incompatible for another version.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, out Hello hello, [NotNullWhen(false)] out FabricError? error)
    {
        hello = default;
        if (source.Length < Size)
            return Refuse.As($"a hello of {source.Length} bytes; it has {Size}", out error);
        if (!BeginsWithMagic(source))
            return Refuse.As($"'{Printable(source[..16])}' instead of a hello", out error);
        ushort version = BinaryPrimitives.ReadUInt16LittleEndian(source[4..]);
        if (version != Version)
        {
            error = new FabricError(ErrorCodes.Incompatible, $"The peer speaks data protocol version {version}; this end speaks {Version}.", "Bring both hosts to the same release.");
            return false;
        }

        var channel = (ChannelKind)source[6];
        int index = source[7];
        if (channel is < ChannelKind.Control or > ChannelKind.Bulk || index >= (channel == ChannelKind.Bulk ? Limits.BulkConnections : 1))
            return Refuse.As($"a hello for connection {source[6]}/{index}", out error);
        if (source[56..Size].ContainsAnyExcept((byte)0))
            return Refuse.As("a hello with reserved bytes set", out error);
        hello = new Hello(channel, index, new MigrationId(new Guid(source.Slice(8, 16), bigEndian: true)), source.Slice(24, TicketSize).ToArray());
        error = null;
        return true;
    }

    /// <summary>Hostile bytes as text for a log: printable ASCII stays, everything else becomes '.'.</summary>
    public static string Printable(ReadOnlySpan<byte> bytes)
    {
        Span<char> text = stackalloc char[Math.Min(bytes.Length, 32)];
        for (int i = 0; i < text.Length; i++)
            text[i] = bytes[i] is >= 0x20 and < 0x7f ? (char)bytes[i] : '.';
        return text.ToString();
    }
}

/// <summary>Why a connection was not let in. The value is on the wire.</summary>
public enum HelloStatus : ushort
{
    Welcome = 0,

    /// <summary>No such migration here, or a wrong ticket: which of the two is not said.</summary>
    Unknown = 1,
    Version = 2,
    Malformed = 3,

    /// <summary>This connection of the migration exists already.</summary>
    Taken = 4,
    Busy = 5,
}

/// <summary>The destination's answer: a status and a sentence (at most 512 bytes of UTF-8).</summary>
public readonly record struct HelloReply(HelloStatus Status, string Text)
{
    public const int HeadSize = 10;
    public const int MaxText = 512;

    /// <summary>Returns the bytes written, at most <see cref="HeadSize"/> + <see cref="MaxText"/>.</summary>
    public int Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(destination, Hello.Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(destination[4..], Hello.Version);
        BinaryPrimitives.WriteUInt16LittleEndian(destination[6..], (ushort)Status);
        int length = ErrorText.WriteCut(Text, destination.Slice(HeadSize, MaxText));
        BinaryPrimitives.WriteUInt16LittleEndian(destination[8..], (ushort)length);
        return HeadSize + length;
    }

    /// <summary>Reads the fixed part; <paramref name="textLength"/> bytes of text follow.</summary>
    public static bool TryDecodeHead(ReadOnlySpan<byte> source, out HelloStatus status, out int textLength, [NotNullWhen(false)] out FabricError? error)
    {
        status = default;
        textLength = 0;
        if (source.Length < HeadSize || !Hello.BeginsWithMagic(source))
            return Refuse.As($"'{Hello.Printable(source)}' instead of an answer to the hello", out error);
        status = (HelloStatus)BinaryPrimitives.ReadUInt16LittleEndian(source[6..]);
        textLength = BinaryPrimitives.ReadUInt16LittleEndian(source[8..]);
        if (textLength > MaxText)
            return Refuse.As($"a hello reply with {textLength} bytes of text; it has at most {MaxText}", out error);
        error = null;
        return true;
    }
}

/// <summary>An error on the wire: code and text, length-prefixed, cut to bounds. Body of NotReady, TokenRefused and Bye.</summary>
public static class ErrorText
{
    public const int MinSize = 4;
    public const int MaxCode = 64;
    public const int MaxText = 1024;
    public const int MaxSize = MinSize + MaxCode + MaxText;

    /// <summary>Returns the bytes written, at most <see cref="MaxSize"/>.</summary>
    public static int Write(FabricError error, Span<byte> destination)
    {
        ArgumentNullException.ThrowIfNull(error);
        int code = WriteCut(error.Code, destination.Slice(2, MaxCode));
        BinaryPrimitives.WriteUInt16LittleEndian(destination, (ushort)code);
        string text = error.Hint is null ? error.Message : $"{error.Message} {error.Hint}";
        int length = WriteCut(text, destination.Slice(4 + code, MaxText));
        BinaryPrimitives.WriteUInt16LittleEndian(destination[(2 + code)..], (ushort)length);
        return MinSize + code + length;
    }

    public static bool TryDecode(ReadOnlySpan<byte> source, [NotNullWhen(true)] out FabricError? value, [NotNullWhen(false)] out FabricError? error)
    {
        value = null;
        if (source.Length is < MinSize or > MaxSize)
            return Refuse.As($"an error of {source.Length} bytes", out error);
        int code = BinaryPrimitives.ReadUInt16LittleEndian(source);
        if (code > MaxCode || MinSize + code > source.Length)
            return Refuse.As($"an error whose code has {code} bytes", out error);
        int text = BinaryPrimitives.ReadUInt16LittleEndian(source[(2 + code)..]);
        if (text > MaxText || MinSize + code + text != source.Length)
            return Refuse.As($"an error whose text has {text} bytes", out error);
        value = new FabricError(Clean(source.Slice(2, code)), Clean(source.Slice(4 + code, text)));
        error = null;
        return true;
    }

    /// <summary>Writes as many whole characters as fit; returns the bytes.</summary>
    internal static int WriteCut(string text, Span<byte> destination)
    {
        System.Text.Unicode.Utf8.FromUtf16(text, destination, out _, out int written, replaceInvalidSequences: true);
        return written;
    }

    /// <summary>A peer's text as it may stand in a log: no control characters.</summary>
    public static string Clean(ReadOnlySpan<byte> utf8) =>
        string.Create(null, $"{string.Concat(Encoding.UTF8.GetString(utf8).Select(c => char.IsControl(c) ? '?' : c))}");
}
