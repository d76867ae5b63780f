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

    // Offsets of what is filled in below.
    private const int StartOperand = 0x55;
    private const int EndOperand = 0x63;
    private const int Wait = 0x6c;
    private const byte NoOperation = 0x90;

    private static readonly byte[] Code =
    [
        0xfa,                                           // 00 cli
        0x31, 0xc0,                                     // 01 xor  ax, ax
        0x8e, 0xd8,                                     // 03 mov  ds, ax
        0xe4, 0x92,                                     // 05 in   al, 0x92        A20 on
        0x0c, 0x02,                                     // 07 or   al, 2
        0xe6, 0x92,                                     // 09 out  0x92, al
        0x66, 0x0f, 0x01, 0x16, 0x98, 0x7c,             // 0b lgdt [0x7c98]
        0x66, 0x0f, 0x01, 0x1e, 0x9e, 0x7c,             // 11 lidt [0x7c9e]
        0x0f, 0x20, 0xc0,                               // 17 mov  eax, cr0
        0x66, 0x83, 0xc8, 0x01,                         // 1a or   eax, 1
        0x0f, 0x22, 0xc0,                               // 1e mov  cr0, eax
        0x66, 0xea, 0x29, 0x7c, 0x00, 0x00, 0x08, 0x00, // 21 jmp  0x08:0x7c29     32-bit from here
        0x66, 0xb8, 0x10, 0x00,                         // 29 mov  ax, 0x10
        0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,             // 2d mov  ds/es/ss, ax
        0xbc, 0x00, 0x7c, 0x00, 0x00,                   // 33 mov  esp, 0x7c00
        0xb0, 0xfe, 0xe6, 0x21, 0xb0, 0xff, 0xe6, 0xa1, // 38 mov  al, 0xfe; out 0x21, al; mov al, 0xff; out 0xa1, al    no interrupt but the timer's
        0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xb0, 0x2e, 0xe6, 0x40, // 40 the timer: 100 times a second
        0xba, 0xf8, 0x03, 0x00, 0x00,                   // 4c mov  edx, 0x3f8      first serial port
        0xb0, 0x41, 0xee,                               // 51 mov  al, 'A'; out dx, al
        0xbb, 0x00, 0x00, 0x00, 0x00,                   // 54 mov  ebx, start      each pass
        0xfe, 0x03,                                     // 59 inc  byte [ebx]
        0x81, 0xc3, 0x00, 0x10, 0x00, 0x00,             // 5b add  ebx, 4096
        0x81, 0xfb, 0x00, 0x00, 0x00, 0x00,             // 61 cmp  ebx, end
        0x72, 0xf0,                                     // 67 jb   59
        0xb0, 0x42, 0xee,                               // 69 mov  al, 'B'; out dx, al
        0xfb, 0xf4, 0xfa,                               // 6c sti; hlt; cli        until the timer ticks
        0xeb, 0xe3,                                     // 6f jmp  54
        0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf,       // 71 the tick: push eax; mov al, 0x20; out 0x20, al; pop eax; iret
        0x71, 0x7c, 0x08, 0x00, 0x00, 0x8e, 0x00, 0x00, // 78 its gate, number 8
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 80 the empty descriptor
        0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xcf, 0x00, // 88 flat code
        0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00, // 90 flat data
        0x17, 0x00, 0x80, 0x7c, 0x00, 0x00,             // 98 descriptors: limit 23, base 0x7c80
        0x47, 0x00, 0x38, 0x7c, 0x00, 0x00,             // 9e gates: limit 71, base 0x7c38, so that number 8 is the one above
    ];

    /// <summary>The image of a disk that boots into the guest; 1 MiB.</summary>
    /// <param name="rangeEnd">Physical address behind the last page that is counted.</param>
    /// <param name="waits">True: after each pass it waits for the next hundredth of a second. False: it never rests, and takes a processor of this machine.</param>
    internal static byte[] Image(int rangeEnd, bool waits = false)
    {
        byte[] image = new byte[1024 * 1024];
        Code.CopyTo(image, 0);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(StartOperand), RangeStart);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(EndOperand), rangeEnd);
        if (!waits)
            image.AsSpan(Wait, 3).Fill(NoOperation);
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
