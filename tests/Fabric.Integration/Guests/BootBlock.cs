using System.Buffers.Binary;

namespace Fabric.Integration.Guests;

/// <summary>
/// A guest in 512 bytes that is its own memory oracle. It switches to 32-bit protected mode, says 'A' on the serial line, and then for
/// ever adds one to the first byte of each page of a range, in order, and says 'B' after each pass. So at any moment the bytes along the
/// range hold at most two values, one apart, with one step between them: a lost, stale or torn page breaks that. It runs where a stock
/// kernel does not boot (some nested KVM).
/// </summary>
internal static class BootBlock
{
    internal const int PageSize = 4096;

    /// <summary>Physical addresses; the range begins above the first MiB, which belongs to the firmware.</summary>
    internal const int RangeStart = 0x0010_0000;

    /// <summary>Where its code is: the firmware loads it to 0x7C00.</summary>
    internal const long CodePage = 0x7C00 / PageSize;

    // Offsets of the two immediates below.
    private const int StartOperand = 0x36;
    private const int EndOperand = 0x44;

    private static readonly byte[] Code =
    [
        0xfa,                                           // 00 cli
        0x31, 0xc0,                                     // 01 xor  ax, ax
        0x8e, 0xd8,                                     // 03 mov  ds, ax
        0xe4, 0x92,                                     // 05 in   al, 0x92        A20 on
        0x0c, 0x02,                                     // 07 or   al, 2
        0xe6, 0x92,                                     // 09 out  0x92, al
        0x66, 0x0f, 0x01, 0x16, 0x67, 0x7c,             // 0b lgdt [0x7c67]
        0x0f, 0x20, 0xc0,                               // 11 mov  eax, cr0
        0x66, 0x83, 0xc8, 0x01,                         // 14 or   eax, 1
        0x0f, 0x22, 0xc0,                               // 18 mov  cr0, eax
        0x66, 0xea, 0x23, 0x7c, 0x00, 0x00, 0x08, 0x00, // 1b jmp  0x08:0x7c23     32-bit from here
        0x66, 0xb8, 0x10, 0x00,                         // 23 mov  ax, 0x10
        0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,             // 27 mov  ds/es/ss, ax
        0xba, 0xf8, 0x03, 0x00, 0x00,                   // 2d mov  edx, 0x3f8      first serial port
        0xb0, 0x41, 0xee,                               // 32 mov  al, 'A'; out dx, al
        0xbb, 0x00, 0x00, 0x00, 0x00,                   // 35 mov  ebx, start      each pass
        0xfe, 0x03,                                     // 3a inc  byte [ebx]
        0x81, 0xc3, 0x00, 0x10, 0x00, 0x00,             // 3c add  ebx, 4096
        0x81, 0xfb, 0x00, 0x00, 0x00, 0x00,             // 42 cmp  ebx, end
        0x72, 0xf0,                                     // 48 jb   3a
        0xb0, 0x42, 0xee,                               // 4a mov  al, 'B'; out dx, al
        0xeb, 0xe6,                                     // 4d jmp  35
        0, 0, 0, 0, 0, 0, 0, 0,                         // 4f the empty descriptor
        0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00, // 57 flat code
        0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00, // 5f flat data
        0x17, 0x00, 0x4f, 0x7c, 0x00, 0x00,             // 67 table: limit 23, base 0x7c4f
    ];

    /// <summary>The image of a disk that boots into the guest; 1 MiB.</summary>
    /// <param name="rangeEnd">Physical address behind the last page that is counted.</param>
    internal static byte[] Image(int rangeEnd)
    {
        byte[] image = new byte[1024 * 1024];
        Code.CopyTo(image, 0);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(StartOperand), RangeStart);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(EndOperand), rangeEnd);
        image[510] = 0x55;
        image[511] = 0xaa;
        return image;
    }

    /// <summary>Null when the bytes obey the rule, else a sentence that names the first page that does not.</summary>
    /// <param name="values">The first byte of each page of the range, in order.</param>
    internal static string? Violation(ReadOnlySpan<byte> values)
    {
        int steps = 0;
        for (int i = 1; i < values.Length; i++)
        {
            if (values[i] == values[i - 1])
                continue;
            if (++steps > 1 || (byte)(values[i] + 1) != values[i - 1])
                return $"page {(RangeStart / PageSize) + i} holds {values[i]} behind {values[i - 1]} (step {steps})";
        }

        return null;
    }

    internal static long FirstPage => RangeStart / PageSize;

}
