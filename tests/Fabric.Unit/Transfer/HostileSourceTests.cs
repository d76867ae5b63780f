using System.Net.Sockets;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Fabric.Wire.Data;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// A source that holds a valid ticket and speaks by hand: it plants the defects that the destination must find. Each refusal is proven by the error that
/// <c>RunAsync</c> ends with, and the rule's other half by a conversation that differs only in the defect and ends in Ready.
/// </summary>
public sealed class HostileSourceTests : IAsyncLifetime
{
    private const int Second = 1000;
    private const long Pages = 64;
    private readonly MappedMemory _memory = MappedMemory.Anonymous(Pages * VmSpec.PageSize);
    private readonly TransferPair _pair = new(Pages, VerifyLevel.Frames, bulk: 1);
    private Fabric.Transfer.Incoming.IncomingTransfer _incoming = null!;
    private IDisposable _registration = null!;
    private OutgoingChannels _source = null!;
    private Task _running = null!;

    public async Task InitializeAsync()
    {
        for (long page = 0; page < Pages; page++)
            PageBytes.Fill(At(page), VmSpec.PageSize, (byte)(page + 1));
        _incoming = new(_pair.Destination, TransferPair.Migration, _pair.Pull, _pair.Settings, TimeProvider.System, NullLogger.Instance);
        _registration = _pair.Listener.Register(TransferPair.Migration, TransferPair.Ticket, _incoming);
        _running = _incoming.RunAsync(_pair, CancellationToken.None);
        _source = await OutgoingConnector.ConnectAsync(_pair.Endpoint, TransferPair.Migration, TransferPair.Ticket, 1, _pair.Settings, TimeProvider.System, CancellationToken.None);
        byte[] terms = new byte[TermsBody.Size];
        new TermsBody(VmSpec.PageSize, Pages, 1, VerifyLevel.Frames, false, Packings.Delta | Packings.Lz4).Write(terms);
        _source.Control.Send(FrameKind.Terms, 0, terms);
        FrameHeader accepted = _source.Control.Receive(TimeSpan.FromSeconds(10), out _);
        Assert.Equal((FrameKind.TermsAccepted, (ulong)(Packings.Delta | Packings.Lz4)), (accepted.Kind, accepted.Argument));
    }

    public async Task DisposeAsync()
    {
        _source.Dispose();
        await Record.ExceptionAsync(() => _running);
        await _incoming.DisposeAsync();
        _registration.Dispose();
        await _pair.DisposeAsync();
        _memory.Dispose();
    }

    [Theory(Timeout = 30 * Second)]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_page_whose_digest_differed_must_come_again(bool withheld)
    {
        Send(5, wrong: true, PageFlags.None);
        _source.Bulk[0].Send(FrameKind.Barrier, 1);
        Assert.Equal(FrameKind.BarrierReached, Hear());
        Send(withheld ? 6 : 5, wrong: false, PageFlags.None);
        _source.Bulk[0].Send(FrameKind.Barrier, 2);
        Assert.Equal(FrameKind.BarrierReached, Hear());
        Finish(lastBarrier: 2);
        if (withheld)
        {
            Assert.Equal(FrameKind.NotReady, Hear());
            await EndsAsync(ErrorCodes.Corrupt, "page 5");
        }
        else
        {
            Assert.Equal(FrameKind.Ready, Hear());
        }
    }

    /// <summary>What a map names was discarded when it came; the map holds for what comes after it as well, and for nothing else.</summary>
    [Fact(Timeout = 30 * Second)]
    public Task A_stale_page_that_comes_again_after_its_map_is_not_kept()
    {
        Send(5, wrong: false, PageFlags.None);
        Send(6, wrong: false, PageFlags.None);
        _source.Bulk[0].Send(FrameKind.Barrier, 1);
        Assert.Equal(FrameKind.BarrierReached, Hear());
        NameMissing(5);
        _source.Control.Send(FrameKind.Ping);
        Assert.Equal(FrameKind.Pong, Hear());
        Assert.Equal([false, true], Held());
        Send(5, wrong: false, PageFlags.None);
        _source.Bulk[0].Send(FrameKind.Barrier, 2);
        Assert.Equal(FrameKind.BarrierReached, Hear());
        Assert.Equal([true, true], Held());
        Finish(lastBarrier: 2, missing: 1);
        Assert.Equal(FrameKind.Ready, Hear());
        Assert.Equal([false, true], Held());
        return Task.CompletedTask;

        bool[] Held() => [.. new[] { 5, 6 }.Select(page => !PageBytes.IsZero(_pair.Destination.Address + (page * VmSpec.PageSize), VmSpec.PageSize))];
    }

    [Theory(Timeout = 30 * Second)]
    [InlineData(0)]
    [InlineData(2)]
    public async Task A_map_that_names_other_pages_than_are_announced_is_refused(int announced)
    {
        NameMissing(5);
        Finish(lastBarrier: 0, missing: announced);
        Assert.Equal(FrameKind.NotReady, Hear());
        await EndsAsync(ErrorCodes.Malformed, $"1 missing pages; {announced} were announced");
        Assert.False(_pair.Pull.IsSealed);
    }

    [Fact(Timeout = 30 * Second)]
    public async Task In_the_stopped_copy_a_digest_that_differs_is_refused_at_once()
    {
        Send(5, wrong: true, PageFlags.Frozen);
        await EndsAsync(ErrorCodes.Corrupt, "Page 5");
    }

    /// <summary>The first row is the rule's other half: the same conversation without a defect ends in Ready.</summary>
    [Theory(Timeout = 30 * Second)]
    [InlineData("nothing", "", "")]
    [InlineData("noise", ErrorCodes.Malformed, "do not unpack")]
    [InlineData("too little", ErrorCodes.Malformed, "do not unpack")]
    [InlineData("not agreed on", ErrorCodes.Malformed, "Zstd")]
    [InlineData("a delta of nothing", ErrorCodes.Malformed, "what is not here")]
    [InlineData("another digest", ErrorCodes.Corrupt, "Page 5")]
    public async Task Packed_pages_are_what_they_should_be_or_refused(string defect, string code, string words)
    {
        PageTableBuilder table = new() { Packing = defect == "not agreed on" ? Packing.Zstd : Packing.Lz4 };
        ulong digest = Xxh3.Hash64(At(5), VmSpec.PageSize);
        if (defect == "a delta of nothing")
            table.AddDelta(5, digest);
        else
            table.AddData(5, defect == "another digest" ? digest + 1 : digest);
        using BlockCodec lz4 = BlockCodec.TryLz4()!;
        using MappedMemory packed = MappedMemory.Anonymous(VmSpec.PageSize);
        int length = lz4.Pack(At(5), defect == "too little" ? 2048 : VmSpec.PageSize, packed.Address, VmSpec.PageSize - 1);
        if (defect == "noise")
            PageBytes.Fill(packed.Address, length, 0xf3);
        _source.Bulk[0].SendCopies(table, packed.Address, length, PageFlags.None, 1);
        if (defect != "nothing")
        {
            await EndsAsync(code, words);
            return;
        }

        _source.Bulk[0].Send(FrameKind.Barrier, 1);
        Assert.Equal(FrameKind.BarrierReached, Hear());
        Finish(lastBarrier: 1);
        Assert.Equal(FrameKind.Ready, Hear());
        Assert.Equal(digest, Xxh3.Hash64(_pair.Destination.Address + (5 * VmSpec.PageSize), VmSpec.PageSize));
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_frame_with_a_flipped_bit_is_corrupt()
    {
        byte[] frame = new byte[FrameHeader.Size];
        new FrameHeader(FrameKind.Ping, 0, 0, 0, 1, 0, 0).Write(frame);
        (new FrameHeader(FrameKind.Ping, 0, 0, 0, 1, 0, 0) with { Check = Xxh3.Hash64(frame) ^ 4 }).Write(frame);
        await RawControl().SendAsync(frame);
        await EndsAsync(ErrorCodes.Corrupt, "checksum");
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_repeated_frame_is_malformed()
    {
        byte[] frame = new byte[FrameHeader.Size];
        new FrameHeader(FrameKind.Ping, 0, 0, 0, 0, 0, 0).Write(frame);
        (new FrameHeader(FrameKind.Ping, 0, 0, 0, 0, 0, 0) with { Check = Xxh3.Hash64(frame) }).Write(frame);
        await RawControl().SendAsync(frame);
        await EndsAsync(ErrorCodes.Malformed, "repeated");
    }

    [Theory(Timeout = 30 * Second)]
    [InlineData(FrameKind.Token)]
    [InlineData(FrameKind.Ready)]
    [InlineData(FrameKind.Barrier)]
    public async Task A_frame_out_of_turn_is_malformed(FrameKind kind)
    {
        _source.Control.Send(kind, 3);
        await EndsAsync(ErrorCodes.Malformed, kind.ToString());
        Assert.False(_pair.Accepted.IsCompleted);
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_skipped_barrier_is_malformed()
    {
        _source.Bulk[0].Send(FrameKind.Barrier, 2);
        await EndsAsync(ErrorCodes.Malformed, "barrier 2");
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_device_state_that_is_not_what_was_announced_is_corrupt()
    {
        _source.Control.Send(FrameKind.DeviceState, 0, new byte[100]);
        Finish(lastBarrier: 0, state: [.. Enumerable.Repeat((byte)1, 100)]);
        Assert.Equal(FrameKind.NotReady, Hear());
        await EndsAsync(ErrorCodes.Corrupt, "device state");
    }

    [Fact(Timeout = 30 * Second)]
    public async Task A_bandwidth_cap_spaces_frames_out_and_urgent_bytes_only_count()
    {
        await Task.Yield();
        ManualTime time = new();
        BandwidthCap cap = new(1_000_000, time);
        time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(TimeSpan.Zero, cap.Reserve(1_000_000));
        TimeSpan debt = cap.Reserve(1);
        Assert.InRange(debt.TotalSeconds, 0.9, 1.0);
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(TimeSpan.Zero, cap.Reserve(1));
        cap.Set(null);
        cap.Charge(long.MaxValue / 2);
        Assert.Equal(TimeSpan.Zero, cap.Reserve(1));
    }

    private nint At(long page) => _memory.Address + (nint)(page * VmSpec.PageSize);

    private void Send(long page, bool wrong, PageFlags flags)
    {
        PageTableBuilder table = new();
        table.AddData(page, Xxh3.Hash64(At(page), VmSpec.PageSize) ^ (wrong ? 1UL : 0));
        _source.Bulk[0].SendPages(table, _memory.Address, VmSpec.PageSize, flags, 1);
    }

    private void NameMissing(int page)
    {
        byte[] body = new byte[FrameHeader.SmallBody];
        int length = MapPiece.Write([1UL << page], body);
        _source.Control.Send(FrameKind.MissingMap, 0, body.AsSpan(0, length));
    }

    private void Finish(long lastBarrier, byte[]? state = null, long? missing = null)
    {
        byte[] body = new byte[FinishBody.Size];
        new FinishBody(missing is not null, state?.Length ?? 0, Xxh3.Hash128(state ?? []), lastBarrier, missing ?? 0).Write(body);
        _source.Control.Send(FrameKind.Finish, 0, body);
    }

    private FrameKind Hear() => _source.Control.Receive(TimeSpan.FromSeconds(10), out _).Kind;

    private Socket RawControl() => _source.Control.RawSocket;

    private async Task EndsAsync(string code, string words)
    {
        FabricException end = await Assert.ThrowsAsync<FabricException>(() => _running);
        Assert.Equal(code, end.Error.Code);
        Assert.Contains(words, end.Error.Message, StringComparison.Ordinal);
    }

    private sealed class ManualTime : TimeProvider
    {
        private long _ticks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _ticks;

        public void Advance(TimeSpan by) => _ticks += by.Ticks;
    }
}
