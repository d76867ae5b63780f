using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>Numbers that several senders add to, once per frame.</summary>
internal sealed class SendCounters
{
    private long _data;
    private long _zero;

    public long DataPages => Volatile.Read(ref _data);

    public long ZeroPages => Volatile.Read(ref _zero);

    public void Add(int data, int zero)
    {
        Interlocked.Add(ref _data, data);
        Interlocked.Add(ref _zero, zero);
    }
}

/// <summary>
/// Puts pages on one connection: digest, zero check, one gathered send per frame straight from guest memory. One thread; all its memory is
/// made with it, nothing is allocated for a page or a frame.
/// </summary>
internal sealed class PageSender
{
    private readonly PageTableBuilder _table = new();
    private readonly byte[] _digests = GC.AllocateUninitializedArray<byte>(FrameHeader.SmallBody, pinned: true);
    private readonly IGuestMemory _memory;
    private readonly BandwidthCap? _cap;
    private readonly CancellationToken _ended;
    private readonly SendCounters _counters;
    private readonly bool _digest;
    private readonly ulong _zeroDigest;

    public PageSender(DataChannel channel, IGuestMemory memory, VerifyLevel verify, BandwidthCap? cap, SendCounters counters, CancellationToken ended)
    {
        Channel = channel;
        _memory = memory;
        _cap = cap;
        _counters = counters;
        _ended = ended;
        _digest = verify != VerifyLevel.None;
        byte[] zeros = new byte[memory.PageSize];
        _zeroDigest = Xxh3.Hash64(zeros);
        ZeroDigest128 = Xxh3.Hash128(zeros);
    }

    public DataChannel Channel { get; }

    public UInt128 ZeroDigest128 { get; }

    /// <summary>Pages of the chunk at hand, ascending: filled by the job, sent by <see cref="SendPages"/>.</summary>
    public long[] Chunk { get; } = new long[Limits.PagesPerFrame];

    /// <summary>The table of the frame sent last: what became of each page.</summary>
    public PageTableBuilder Sent => _table;

    /// <summary>Waits until the link's cap lets this sender send. What is then sent with <see cref="PageFlags.Pull"/> is charged and waits no more.</summary>
    public void AwaitTurn() => _cap?.AwaitTurn(_ended);

    /// <summary>Sends the first <paramref name="count"/> pages of <see cref="Chunk"/>. They are present at this end, or may be made by a touch. Returns the bytes on the wire.</summary>
    public long SendPages(int count, PageFlags flags, ulong round)
    {
        _table.Clear();
        nint start = _memory.Address;
        int size = _memory.PageSize;
        for (int i = 0; i < count; i++)
        {
            long page = Chunk[i];
            nint address = start + (nint)(page * size);
            ulong digest = 0;
            bool zero;
            if (_digest)
            {
                // One pass over the page; the second, over pages that are all zero, rules out a digest that only looks like it.
                digest = Xxh3.Hash64(address, size);
                zero = digest == _zeroDigest && PageBytes.IsZero(address, size);
            }
            else
            {
                zero = PageBytes.IsZero(address, size);
            }

            if (zero)
                _table.AddZero(page);
            else
                _table.AddData(page, digest);
        }

        return SendTable(flags, round);
    }

    /// <summary>Says of the first <paramref name="count"/> pages of <see cref="Chunk"/> that they read as zeros, without touching them.</summary>
    public void SendZeros(int count, PageFlags flags, ulong round)
    {
        _table.Clear();
        for (int i = 0; i < count; i++)
            _table.AddZero(Chunk[i]);
        SendTable(flags, round);
    }

    /// <summary>Sends the XXH3-128 digests of a run (one piece). Holes count as zeros and are not touched.</summary>
    public void SendDigests(PageRun run, PageBitmap present)
    {
        int size = _memory.PageSize;
        for (int i = 0; i < run.Count; i++)
        {
            long page = run.First + i;
            UInt128 digest = present[page] ? Xxh3.Hash128(_memory.Address + (nint)(page * size), size) : ZeroDigest128;
            DigestPiece.Write(_digests, i, digest);
        }

        Channel.Send(FrameKind.Digests, (ulong)run.First, _digests.AsSpan(0, run.Count * DigestPiece.DigestSize));
    }

    private long SendTable(PageFlags flags, ulong round)
    {
        long bytes = FrameHeader.Size + _table.TableLength + ((long)_table.DataPages * _memory.PageSize);
        if ((flags & PageFlags.Pull) != PageFlags.None)
            _cap?.Charge(bytes);
        else
            _cap?.Wait(bytes, _ended);
        Channel.SendPages(_table, _memory.Address, _memory.PageSize, flags, round);
        _counters.Add(_table.DataPages, _table.Pages - _table.DataPages);
        return bytes;
    }
}
