using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Native;

/// <summary>Both libraries, by what comes back; and that nothing which a peer may send makes them write beyond the bounds that they are given, proven by the bytes behind them.</summary>
public sealed class BlockCodecTests
{
    private const int Size = 64 * 4096;
    private const int Guard = 4096;

    public static TheoryData<string> Codecs => ["lz4", "zstd"];

    [Theory]
    [MemberData(nameof(Codecs))]
    public void What_was_packed_comes_back(string which)
    {
        using var codec = Make(which);
        using var memory = MappedMemory.Anonymous(3 * Size);
        var (from, to, back) = (memory.Address, memory.Address + Size, memory.Address + (2 * Size));
        Random random = new(3);
        for (int length = 4096; length <= Size; length *= 2)
        {
            for (int at = 0; at < length; at += 64)
                PageBytes.Fill(from + at, 64, (byte)random.Next(4));
            int packed = codec.Pack(from, length, to, length - 1);
            Assert.InRange(packed, 1, length / 2);
            Assert.True(codec.TryUnpack(to, packed, back, length));
            Assert.Equal(Xxh3.Hash64(from, length), Xxh3.Hash64(back, length));
            Assert.False(codec.TryUnpack(to, packed, back, length - 1));
            Assert.False(codec.TryUnpack(to, packed - 1, back, length));
        }
    }

    [Theory]
    [MemberData(nameof(Codecs))]
    public void What_does_not_get_smaller_does_not_fit(string which)
    {
        using var codec = Make(which);
        using var memory = MappedMemory.Anonymous(2 * Size);
        byte[] noise = new byte[Size];
        new Random(4).NextBytes(noise);
        System.Runtime.InteropServices.Marshal.Copy(noise, 0, memory.Address, Size);
        Assert.Equal(0, codec.Pack(memory.Address, Size, memory.Address + Size, Size - 1));
    }

    [Theory]
    [MemberData(nameof(Codecs))]
    public void Damaged_input_is_refused_or_unpacks_within_its_bounds(string which)
    {
        using var codec = Make(which);
        using var memory = MappedMemory.Anonymous((3 * Size) + Guard);
        var (from, to, back) = (memory.Address, memory.Address + Size, memory.Address + (2 * Size));
        for (int at = 0; at < Size; at += 256)
            PageBytes.Fill(from + at, 200, (byte)(at >> 8));
        int packed = codec.Pack(from, Size, to, Size - 1);
        byte[] good = new byte[packed];
        System.Runtime.InteropServices.Marshal.Copy(to, good, 0, packed);
        PageBytes.Fill(back + Size, Guard, 0x5a);
        ulong guard = Xxh3.Hash64(back + Size, Guard);
        Random random = new(5);
        int refused = 0;
        for (int i = 0; i < 3000; i++)
        {
            byte[] bad = [.. good];
            for (int flips = random.Next(1, 6); flips > 0; flips--)
                bad[random.Next(bad.Length)] = (byte)random.Next(256);
            int length = random.Next(4) == 0 ? random.Next(1, packed) : packed;
            System.Runtime.InteropServices.Marshal.Copy(bad, 0, to, length);
            refused += codec.TryUnpack(to, length, back, Size) ? 0 : 1;
            Assert.Equal(guard, Xxh3.Hash64(back + Size, Guard));
        }

        Assert.True(refused > 300, $"{refused} refused");
    }

    private static BlockCodec Make(string which) => (which == "lz4" ? BlockCodec.TryLz4() : BlockCodec.TryZstd()) ?? throw new InvalidOperationException($"No {which} here.");
}
