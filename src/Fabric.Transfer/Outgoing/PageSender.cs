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
    private long _packed;
    private long _delta;

    /// <summary>Pages that were not zero, however they were written.</summary>
    public long DataPages => Volatile.Read(ref _data);

    public long ZeroPages => Volatile.Read(ref _zero);

    /// <summary>Of <see cref="DataPages"/>, those in frames that were packed.</summary>
    public long PackedPages => Volatile.Read(ref _packed);

    /// <summary>Of <see cref="DataPages"/>, those that went as a difference.</summary>
    public long DeltaPages => Volatile.Read(ref _delta);

    public void Add(PageTableBuilder sent)
    {
        Interlocked.Add(ref _data, sent.DataPages);
        Interlocked.Add(ref _zero, sent.Pages - sent.DataPages);
        if (sent.Packing == Packing.None)
            return;
        // A frame that was tried and became no smaller is stored.
        if (sent.Packing != Packing.Stored)
            Interlocked.Add(ref _packed, sent.DataPages);
        Interlocked.Add(ref _delta, sent.DeltaPages);
    }
}

/// <summary>
/// Puts pages on one connection: read once (docs/decisions/0016-read-once.md), digest, zero check, one gathered send per frame, packed where that pays (<see cref="PackingChoice"/>).
/// One thread; all its memory is made before its first frame, nothing is allocated for a page or a frame.
/// </summary>
internal sealed class PageSender : IDisposable
{
    private readonly PageTableBuilder _table = new();
    private readonly byte[] _digests = GC.AllocateUninitializedArray<byte>(FrameHeader.SmallBody, pinned: true);
    private readonly IGuestMemory _memory;
    private readonly BandwidthCap? _cap;
    private readonly CancellationToken _ended;
    private readonly SendCounters _counters;
    private readonly TimeProvider _time;
    private readonly bool _digest;
    private readonly ulong _zeroDigest;
    private readonly MappedMemory _copies;
    private PackingChoice? _choice;
    private PagePacker? _packer;
    private DeltaCache? _kept;
    private Packing _quick;
    private double _waited; // seconds, in AwaitTurn, for the frame to come

    public PageSender(DataChannel channel, IGuestMemory memory, VerifyLevel verify, BandwidthCap? cap, SendCounters counters, TimeProvider time, CancellationToken ended)
    {
        Channel = channel;
        _memory = memory;
        _cap = cap;
        _counters = counters;
        _time = time;
        _ended = ended;
        _digest = verify != VerifyLevel.None;
        byte[] zeros = new byte[memory.PageSize];
        _zeroDigest = Xxh3.Hash64(zeros);
        _copies = MappedMemory.Anonymous((long)Limits.PagesPerFrame * memory.PageSize);
        ZeroDigest128 = Xxh3.Hash128(zeros);
    }

    public DataChannel Channel { get; }

    public UInt128 ZeroDigest128 { get; }

    /// <summary>Pages of the chunk at hand, ascending: filled by the job, sent by <see cref="SendPages"/>.</summary>
    public long[] Chunk { get; } = new long[Limits.PagesPerFrame];

    /// <summary>The table of the frame sent last: what became of each page.</summary>
    public PageTableBuilder Sent => _table;

    /// <summary>From now on frames are packed where that pays. Before the first job.</summary>
    /// <param name="packings">What both ends agreed on.</param>
    /// <param name="kept">Shared by all senders; null where no page is sent twice.</param>
    public void Pack(Packings packings, DeltaCache? kept)
    {
        if ((packings & (Packings.Lz4 | Packings.Zstd)) == Packings.None)
            return;
        _choice = new PackingChoice(packings);
        _quick = (packings & Packings.Lz4) != Packings.None ? Packing.Lz4 : Packing.Zstd;
        _packer = new PagePacker(packings, _memory.PageSize);
        _kept = (packings & Packings.Delta) != Packings.None ? kept : null;
    }

    /// <summary>Waits until the link's cap lets this sender send. What is then sent with <see cref="PageFlags.Pull"/> is charged and waits no more.</summary>
    public void AwaitTurn()
    {
        if (_cap is null)
            return;
        long began = _time.GetTimestamp();
        _cap.AwaitTurn(_ended);
        _waited += _time.GetElapsedTime(began).TotalSeconds;
    }

    /// <summary>Sends the first <paramref name="count"/> pages of <see cref="Chunk"/>. They are present at this end, or may be made by a touch. Returns the bytes on the wire.</summary>
    public long SendPages(int count, PageFlags flags, ulong round, bool keeps = false)
    {
        // What is pulled comes once.
        var kept = (flags & PageFlags.Pull) == PageFlags.None ? _kept : null;
        bool again = round > 1 && kept is not null;
        var packing = _choice?.Next((long)count * _memory.PageSize, again) ?? Packing.None;
        long began = _time.GetTimestamp();
        _table.Clear();
        nint data = 0;
        int length = 0;
        if (packing == Packing.None)
            (data, length) = TryCopy(count) ? ReadCopies(count) : ReadInPlace(count);
        else
            (data, length) = ReadPacked(count, ref packing, kept, round, keeps);
        long ready = _time.GetTimestamp();
        long bytes = SendTable(data, length, flags, round);
        // Also what did not become smaller, and is sent as it is, was tried.
        _choice?.Sent(
            packing, (long)_table.DataPages * _memory.PageSize, bytes, _time.GetElapsedTime(began, ready).TotalSeconds, _waited + _time.GetElapsedTime(ready).TotalSeconds);
        _waited = 0;
        return bytes;
    }

    /// <summary>Says of the first <paramref name="count"/> pages of <see cref="Chunk"/> that they read as zeros, without touching them.</summary>
    public void SendZeros(int count, PageFlags flags, ulong round)
    {
        _table.Clear();
        for (int i = 0; i < count; i++)
        {
            _table.AddZero(Chunk[i]);
            _kept?.Forget(Chunk[i]);
        }

        SendTable(0, 0, flags, round);
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

    public void Dispose()
    {
        _packer?.Dispose();
        _copies.Dispose();
    }

    // The pages of the chunk into _copies, in their order; run by run.
    private bool TryCopy(int count)
    {
        int size = _memory.PageSize;
        for (int i = 0, run; i < count; i += run)
        {
            for (run = 1; i + run < count && Chunk[i + run] == Chunk[i] + run;)
                run++;
            if (!_memory.TryRead(new PageRun(Chunk[i], run), _copies.Address + (nint)((long)i * size)))
                return false;
        }

        return true;
    }

    // What was read is what is sent, whatever the guest writes meanwhile. Zero pages are closed up.
    private (nint Data, int Length) ReadCopies(int count)
    {
        int size = _memory.PageSize;
        int filled = 0;
        for (int i = 0; i < count; i++)
        {
            long page = Chunk[i];
            _kept?.Forget(page);
            nint copy = _copies.Address + (nint)((long)i * size);
            if (IsZero(copy, out ulong digest))
            {
                _table.AddZero(page);
                continue;
            }

            _table.AddData(page, digest);
            nint place = _copies.Address + filled;
            if (place != copy)
                PageBytes.Copy(copy, place, size);
            filled += size;
        }

        return filled > 0 ? (_copies.Address, filled) : (0, 0);
    }

    // What the guest may still write is not known to be what the destination gets.
    private (nint Data, int Length) ReadInPlace(int count)
    {
        nint start = _memory.Address;
        int size = _memory.PageSize;
        for (int i = 0; i < count; i++)
        {
            long page = Chunk[i];
            _kept?.Forget(page);
            if (IsZero(start + (nint)(page * size), out ulong digest))
                _table.AddZero(page);
            else
                _table.AddData(page, digest);
        }

        return (0, 0);
    }

    private (nint Data, int Length) ReadPacked(int count, ref Packing packing, DeltaCache? kept, ulong round, bool keeps)
    {
        _packer!.Clear();
        for (int i = 0; i < count; i++)
        {
            long page = Chunk[i];
            nint copy = _packer.Add(_memory, page);
            if (IsZero(copy, out ulong digest))
            {
                _packer.TakeBack();
                kept?.Forget(page);
                _table.AddZero(page);
            }
            else if (kept?.TryDelta(page, copy, round) == true)
            {
                _table.AddDelta(page, digest);
            }
            else
            {
                if (keeps)
                    kept?.Keep(page, copy, round);
                _table.AddData(page, digest);
            }
        }

        if (packing == Packing.Stored && _table.DeltaPages > 0)
            packing = _quick;
        _table.Packing = _packer.Finish(packing, out nint data, out int length);
        return length > 0 ? (data, length) : (0, 0);
    }

    // One pass over the page for its digest; the second, over pages that are all zero, rules out a digest that only looks like it.
    private bool IsZero(nint page, out ulong digest)
    {
        digest = 0;
        if (!_digest)
            return PageBytes.IsZero(page, _memory.PageSize);
        digest = Xxh3.Hash64(page, _memory.PageSize);
        return digest == _zeroDigest && PageBytes.IsZero(page, _memory.PageSize);
    }

    // Data 0: the pages lie in the guest's memory.
    private long SendTable(nint data, int length, PageFlags flags, ulong round)
    {
        bool inPlace = data == 0;
        long bytes = FrameHeader.Size + _table.TableLength + (inPlace ? (long)_table.DataPages * _memory.PageSize : length);
        if ((flags & PageFlags.Pull) != PageFlags.None)
            _cap?.Charge(bytes);
        else
            _cap?.Wait(bytes, _ended);
        if (inPlace)
            Channel.SendPages(_table, _memory.Address, _memory.PageSize, flags, round);
        else
            Channel.SendCopies(_table, data, length, flags, round);
        _counters.Add(_table);
        return bytes;
    }
}
