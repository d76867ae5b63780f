using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>The native pieces under the data plane, against what C and the published vectors say.</summary>
public sealed class NativeIoTests
{
    [Fact]
    public void A_message_header_has_the_layout_of_64_bit_linux() => Assert.Equal(56, Unsafe.SizeOf<SocketIo.MessageHeader>());

    [Fact]
    public void Xxh3_is_the_published_function()
    {
        Assert.Equal(0x2D06800538D394C2UL, Xxh3.Hash64([]));
        Assert.Equal(new UInt128(0x99AA06D3014798D8, 0x6001C324468D497F), Xxh3.Hash128([]));
    }

    /// <summary>Of a page the vector units take part; the digests are those of the library's plain functions.</summary>
    [Fact]
    public void Xxh3_of_a_page_is_the_same_on_every_processor()
    {
        byte[] page = [.. Enumerable.Range(0, 4096).Select(static i => (byte)(i * 7))];
        Assert.Equal(0x8FB047A89E810965UL, Xxh3.Hash64(page));
        Assert.Equal(new UInt128(0xE0EF0909B1BDD88B, 0x8FB047A89E810965), Xxh3.Hash128(page));
    }

    [Fact]
    public void One_byte_anywhere_makes_a_page_not_zero()
    {
        using MappedMemory page = MappedMemory.Anonymous(4096);
        Assert.True(PageBytes.IsZero(page.Address, 4096));
        for (int i = 0; i < 4096; i++)
        {
            Marshal.WriteByte(page.Address + i, 1);
            Assert.False(PageBytes.IsZero(page.Address, 4096));
            Marshal.WriteByte(page.Address + i, 0);
        }
    }

    [Fact]
    public void Neighbouring_areas_melt_into_one_and_what_was_moved_is_struck_off()
    {
        SocketIoVectors areas = new(3);
        areas.Add(0x1000, 0x1000);
        areas.Add(0x2000, 0x1000);
        areas.Add(0x9000, 0x1000);
        Assert.Equal((2, 0x3000L), (areas.Count, areas.Bytes));
        areas.Advance(0x2800);
        Assert.Equal((1, 0x800L), (areas.Count, areas.Bytes));
        Assert.Equal(0x9800, Marshal.ReadIntPtr(areas.Head));
        areas.Advance(0x800);
        Assert.Equal((0, 0L), (areas.Count, areas.Bytes));
    }

    /// <summary>Bursts end where areas do not; what arrives is what the areas hold, and what is under way is counted.</summary>
    [Fact]
    public async Task A_list_is_sent_in_bursts()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using Socket sender = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await sender.ConnectAsync(listener.LocalEndPoint!);
        using Socket receiver = await listener.AcceptAsync();
        int descriptor = (int)sender.SafeHandle.DangerousGetHandle();
        byte[] data = GC.AllocateArray<byte>(20_000, pinned: true);
        new Random(1).NextBytes(data);
        nint first = Marshal.UnsafeAddrOfPinnedArrayElement(data, 0);
        SocketIoVectors areas = new(3);
        areas.Add(first + 10_000, 10_000);
        areas.Add(first, 7_000);
        areas.Add(first + 9_000, 1);
        List<long> bursts = [];
        while (areas.Bytes > 0 && bursts.Count < 10)
            bursts.Add(SocketIo.SendBurst(descriptor, areas, 4_096));
        Assert.Equal([4_096, 4_096, 4_096, 4_096, 617], bursts);
        Assert.InRange(SocketIo.Outstanding(descriptor), 0, 17_001);
        byte[] received = new byte[17_001];
        for (int have = 0; have < received.Length;)
            have += await receiver.ReceiveAsync(received.AsMemory(have));
        Assert.Equal([.. data[10_000..], .. data[..7_000], data[9_000]], received);
    }

    [Fact]
    public async Task Input_ends_the_waiting_for_it()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using Socket sender = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await sender.ConnectAsync(listener.LocalEndPoint!);
        using Socket receiver = await listener.AcceptAsync();
        int descriptor = (int)receiver.SafeHandle.DangerousGetHandle();
        SocketIo.AwaitInput(descriptor, TimeSpan.FromMicroseconds(60));
        Assert.Equal(0, receiver.Available);
        await sender.SendAsync(new byte[1]);
        SocketIo.AwaitInput(descriptor, TimeSpan.FromMinutes(10));
        Assert.Equal(1, receiver.Available);
    }
}
