using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Data;
using Xunit;

namespace Fabric.Unit.Wire;

/// <summary>
/// Every decoder of the data plane is total: whatever the bytes, it answers with a value or an error, quickly and without taking memory that the bytes
/// ask for. Proven with valid messages that are then cut, flipped and overwritten with extreme numbers, from fixed seeds.
/// </summary>
public sealed class FrameTests
{
    private const long VmPages = 10_007;
    private static readonly byte[] Secret = [.. Enumerable.Range(1, 32).Select(i => (byte)i)];

    [Fact]
    public void A_hello_survives_the_wire()
    {
        Hello hello = new(ChannelKind.Bulk, 3, new MigrationId(Guid.Parse("01234567-89ab-cdef-0123-456789abcdef")), Secret);
        byte[] bytes = new byte[Hello.Size];
        hello.Write(bytes);
        Assert.Equal("FBRC"u8.ToArray(), bytes[..4]);
        Assert.True(Hello.TryDecode(bytes, out Hello read, out _));
        Assert.Equal((hello.Channel, hello.Index, hello.Migration), (read.Channel, read.Index, read.Migration));
        Assert.Equal(Secret, read.Ticket.ToArray());
    }

    [Fact]
    public void Another_version_is_incompatible_and_plain_http_is_named()
    {
        byte[] bytes = new byte[Hello.Size];
        new Hello(ChannelKind.Control, 0, default, Secret).Write(bytes);
        bytes[4] = 9;
        Assert.False(Hello.TryDecode(bytes, out _, out FabricError? version));
        Assert.Equal(ErrorCodes.Incompatible, version.Code);
        byte[] http = new byte[Hello.Size];
        "GET /v1/vms HTTP/1.1\r\nHost: a.example\r\n\r\n"u8.CopyTo(http);
        Assert.False(Hello.TryDecode(http, out _, out FabricError? foreign));
        Assert.Contains("GET /v1/vms", foreign.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Terms_finish_and_errors_survive_the_wire()
    {
        byte[] bytes = new byte[2048];
        TermsBody terms = new(4096, 1L << 30, 4, VerifyLevel.Full, true, Packings.Delta | Packings.Zstd);
        terms.Write(bytes);
        Assert.True(TermsBody.TryDecode(bytes.AsSpan(0, TermsBody.Size), out TermsBody terms2, out _));
        Assert.Equal(terms, terms2);
        FinishBody finish = new(true, 78_000, UInt128.MaxValue - 5, 12, 99);
        finish.Write(bytes);
        Assert.True(FinishBody.TryDecode(bytes.AsSpan(0, FinishBody.Size), out FinishBody finish2, out _));
        Assert.Equal(finish, finish2);
        RunningBody running = new(TimeSpan.FromMicroseconds(1234), TimeSpan.FromMicroseconds(56));
        running.Write(bytes);
        Assert.True(RunningBody.TryDecode(bytes.AsSpan(0, RunningBody.Size), out RunningBody running2, out _));
        Assert.Equal(running, running2);
        new RunningBody(TimeSpan.FromHours(2), TimeSpan.Zero).Write(bytes);
        Assert.False(RunningBody.TryDecode(bytes.AsSpan(0, RunningBody.Size), out _, out FabricError? tooLong));
        Assert.Contains("7200000000", tooLong.Message, StringComparison.Ordinal);
        FabricError error = new(ErrorCodes.Corrupt, new string('ü', 5000));
        int length = ErrorText.Write(error, bytes);
        Assert.True(length <= ErrorText.MaxSize);
        Assert.True(ErrorText.TryDecode(bytes.AsSpan(0, length), out FabricError? error2, out _));
        Assert.Equal(ErrorCodes.Corrupt, error2.Code);
        Assert.Equal(new string('ü', 512), error2.Message);
    }

    [Fact]
    public void A_table_survives_the_wire()
    {
        byte[] table = Table(out PageTableBuilder builder);
        int body = table.Length + (builder.DataPages * 4096);
        Assert.True(PageTable.TryDecode(table, body, VmPages, 4096, out PageTable read, out _));
        Assert.Equal((builder.Runs, builder.Pages, builder.DataPages), (read.RunCount, read.PageCount, read.DataPages));
        Assert.Equal(new PageRun(5, 3), read.Run(0, out bool zero));
        Assert.False(zero);
        Assert.Equal(new PageRun(8, 1), read.Run(1, out zero));
        Assert.True(zero);
        Assert.Equal(107UL, read.Digest(2));
    }

    [Fact]
    public void A_packed_table_survives_the_wire_and_its_data_is_shorter_than_its_pages()
    {
        PageTableBuilder builder = new() { Packing = Packing.Zstd };
        builder.AddData(5, 100);
        builder.AddDelta(6, 101);
        builder.AddDelta(7, 102);
        builder.AddZero(8);
        byte[] table = new byte[builder.TableLength];
        builder.Write(table);
        Assert.True(PageTable.TryDecode(table, table.Length + 700, VmPages, 4096, out PageTable read, out _));
        Assert.Equal((Packing.Zstd, 3, 4, 3, 700), (read.Packing, read.RunCount, read.PageCount, read.DataPages, read.DataLength));
        Assert.Equal((false, true, false), (read.IsDelta(0), read.IsDelta(1), read.IsDelta(2)));
        Assert.Equal(102UL, read.Digest(2));
        Assert.False(PageTable.TryDecode(table, table.Length, VmPages, 4096, out _, out _));
        Assert.False(PageTable.TryDecode(table, table.Length + (3 * 4096), VmPages, 4096, out _, out _));
        builder.Packing = Packing.Stored;
        builder.Write(table);
        Assert.True(PageTable.TryDecode(table, table.Length + (3 * 4096), VmPages, 4096, out _, out _));
        Assert.False(PageTable.TryDecode(table, table.Length + 700, VmPages, 4096, out _, out _));
        // Differences where nothing is packed, and a packing that does not exist.
        builder.Packing = Packing.None;
        builder.Write(table);
        Assert.False(PageTable.TryDecode(table, table.Length + (3 * 4096), VmPages, 4096, out _, out _));
        builder.Packing = (Packing)4;
        builder.Write(table);
        Assert.False(PageTable.TryDecode(table, table.Length + 700, VmPages, 4096, out _, out FabricError? error));
        Assert.Contains("packing 4", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_length_of_two_to_the_31_is_refused_before_anything_is_taken()
    {
        byte[] bytes = new byte[FrameHeader.Size];
        foreach (FrameKind kind in Enum.GetValues<FrameKind>())
        {
            new FrameHeader(kind, 0, 0, int.MinValue, 0, 0, 0).Write(bytes);
            Assert.False(FrameHeader.TryDecode(bytes, out _, out FabricError? error));
            Assert.Equal(ErrorCodes.Malformed, error.Code);
        }
    }

    [Fact]
    public void No_input_makes_a_decoder_throw_or_take_more_than_its_bound()
    {
        Random random = new(20);
        List<byte[]> seeds = Seeds();
        ulong[] words = new ulong[(VmPages + 63) / 64];
        long[] wanted = new long[WantList.MaxPages];
        long before = GC.GetAllocatedBytesForCurrentThread();
        const int Rounds = 40_000;
        for (int i = 0; i < Rounds; i++)
        {
            byte[] bytes = Mutate(seeds[random.Next(seeds.Count)], random);
            FrameHeader.TryDecode(bytes, out _, out _);
            Hello.TryDecode(bytes, out _, out _);
            HelloReply.TryDecodeHead(bytes, out _, out _, out _);
            ErrorText.TryDecode(bytes, out _, out _);
            TermsBody.TryDecode(bytes, out _, out _);
            FinishBody.TryDecode(bytes, out _, out _);
            RunningBody.TryDecode(bytes, out _, out _);
            MapPiece.TryMerge(bytes, (ulong)random.NextInt64(-3, 200), VmPages, words, out _);
            WantList.TryDecode(bytes, VmPages, wanted, out _, out _);
            DigestPiece.TryCheck(bytes.Length, (ulong)random.NextInt64(-3, VmPages + 3), VmPages, out _, out _);
            if (PageTable.TryDecode(bytes, bytes.Length + (random.Next(4) * 4096), VmPages, 4096, out PageTable table, out _))
            {
                for (int run = 0; run < table.RunCount; run++)
                    Assert.InRange(table.Run(run, out _).End, 1, VmPages);
                for (int page = 0; page < table.DataPages; page++)
                    table.Digest(page);
            }
        }

        long perInput = (GC.GetAllocatedBytesForCurrentThread() - before) / Rounds;
        Assert.True(perInput < 64 * 1024, $"{perInput} bytes for one input");
        Assert.Equal(0UL, words[^1] >> (int)(VmPages % 64));
    }

    private static byte[] Table(out PageTableBuilder builder)
    {
        builder = new PageTableBuilder();
        for (long page = 5; page < 8; page++)
            builder.AddData(page, (ulong)page + 100);
        builder.AddZero(8);
        builder.AddData(VmPages - 1, 9);
        byte[] table = new byte[builder.TableLength];
        builder.Write(table);
        return table;
    }

    private static List<byte[]> Seeds()
    {
        byte[] hello = new byte[Hello.Size];
        new Hello(ChannelKind.Bulk, 1, new MigrationId(Guid.Parse("01234567-89ab-cdef-0123-456789abcdef")), Secret).Write(hello);
        byte[] header = new byte[FrameHeader.Size];
        new FrameHeader(FrameKind.Pages, 1, 100, 5000, 7, 8, 9).Write(header);
        byte[] terms = new byte[TermsBody.Size];
        new TermsBody(4096, VmPages, 2, VerifyLevel.Full, false).Write(terms);
        byte[] finish = new byte[FinishBody.Size];
        new FinishBody(true, 100, 5, 3, 9).Write(finish);
        byte[] error = new byte[ErrorText.MaxSize];
        Array.Resize(ref error, ErrorText.Write(new FabricError(ErrorCodes.Lost, "gone"), error));
        byte[] reply = new byte[HelloReply.HeadSize + HelloReply.MaxText];
        Array.Resize(ref reply, new HelloReply(HelloStatus.Taken, "taken").Write(reply));
        return [hello, header, terms, finish, error, reply, Table(out _), new byte[512 * 8], []];
    }

    private static byte[] Mutate(byte[] seed, Random random)
    {
        byte[] bytes = (byte[])seed.Clone();
        for (int n = random.Next(4); n > 0 && bytes.Length > 0; n--)
        {
            int at = random.Next(bytes.Length);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)(random.Next(2) * 255);
                    break;
                case 2 when at + 8 <= bytes.Length:
                    BitConverter.TryWriteBytes(bytes.AsSpan(at), random.Next(3) switch { 0 => long.MaxValue, 1 => long.MinValue, _ => random.NextInt64(VmPages * 2) });
                    break;
                default:
                    Array.Resize(ref bytes, random.Next(bytes.Length + 9));
                    break;
            }
        }

        return bytes;
    }
}
