using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// Takes the pages of one connection in. While the guest does not run here they are received straight into its memory; in the pull
/// they are received into staging, checked, and installed in runs. One thread; nothing is allocated for a page or a frame.
/// </summary>
internal sealed class PageReceiver : IDisposable
{
    private readonly DataChannel _channel;
    private readonly IGuestMemory _memory;
    private readonly PushBooks _books;
    private readonly SocketIoVectors _areas = new(Limits.PagesPerFrame);
    private readonly long[] _suspects = new long[Limits.PagesPerFrame];
    private readonly bool _verify;
    private readonly PageUnpacker? _unpacker;
    private MappedMemory? _staging;
    private bool _canFill = true;

    /// <param name="packings">What the source may use on this connection.</param>
    public PageReceiver(DataChannel channel, IGuestMemory memory, PushBooks books, VerifyLevel verify, Packings packings)
    {
        _channel = channel;
        _memory = memory;
        _books = books;
        _verify = verify != VerifyLevel.None;
        _unpacker = packings == Packings.None ? null : new PageUnpacker(channel, packings, memory.PageSize);
    }

    private nint Staging => (_staging ??= MappedMemory.Anonymous((long)Limits.PagesPerFrame * _memory.PageSize)).Address;

    /// <summary>The rest of a Pages frame of the push phase or of the stopped copy, whose table is in <paramref name="body"/>.</summary>
    public void TakePushed(FrameHeader header, ReadOnlySpan<byte> body)
    {
        int size = _memory.PageSize;
        if (!PageTable.TryDecode(body, header.BodyLength, _memory.PageCount, size, out PageTable table, out FabricError? error))
            throw new FabricException(error);
        // Pages that are holes so far are received into staging, which stays in the cache, compared there and written through the memory's file
        // (where it offers that): half the cost of faulting each in through the mapping. Pages that exist are received in place: they came before,
        // will come again, and then cost neither a fault nor a second copy, which counts most in the stopped copy.
        bool packed = table.Packing != Packing.None;
        bool staged = packed || (_canFill && _books.AllNew(table));
        nint start = staged ? Staging : _memory.Address;
        Receive(table, start, staged);
        if (packed)
            _unpacker!.AddDeltas(table, start, _memory.Address, _books);
        int suspects = _verify ? Compare(table, start, direct: !staged) : 0;
        // What was packed was packed from a copy, which nothing wrote.
        if (suspects > 0 && (packed || ((PageFlags)header.Flags & PageFlags.Frozen) != PageFlags.None))
            throw Corrupt(_suspects[0]);
        if (staged)
            Fill(table, start);
        _books.Note(table, _suspects.AsSpan(0, suspects), mapped: !staged);
    }

    /// <summary>The rest of a Pages frame of the pull: into staging, checked strictly, installed, and only then marked as arrived.</summary>
    public void TakePulled(FrameHeader header, ReadOnlySpan<byte> body, PullSink sink)
    {
        int size = _memory.PageSize;
        if (!PageTable.TryDecode(body, header.BodyLength, _memory.PageCount, size, out PageTable table, out FabricError? error))
            throw new FabricException(error);
        nint at = Staging;
        Receive(table, at, staged: true);
        if (table.Packing != Packing.None)
            _unpacker!.RefuseDeltas(table);
        if (_verify && Compare(table, at, direct: false) > 0)
            throw Corrupt(_suspects[0]);
        bool wanted = ((PageFlags)header.Flags & PageFlags.Wanted) != PageFlags.None;
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            sink.Install(run, zero ? 0 : at, wanted);
            at += zero ? 0 : (nint)run.Count * size;
        }
    }

    public void Dispose()
    {
        _staging?.Dispose();
        _unpacker?.Dispose();
    }

    private void Receive(PageTable table, nint start, bool staged)
    {
        if (table.Packing != Packing.None)
        {
            if (_unpacker is null)
                throw _channel.Malformed($"packed pages ({table.Packing}), which were not agreed on");
            _unpacker.Receive(table, start);
            return;
        }

        AimAt(table, start, staged);
        _channel.ReceiveData(_areas);
    }

    private void AimAt(PageTable table, nint start, bool staged)
    {
        int size = _memory.PageSize;
        _areas.Clear();
        if (staged)
        {
            _areas.Add(start, (long)table.DataPages * size);
            return;
        }

        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            if (zero)
                continue;
            nint address = start + (nint)(run.First * size);
            if (!_books.AllMapped(run))
                PageBytes.Populate(address, (long)run.Count * size);
            _areas.Add(address, (long)run.Count * size);
        }
    }

    private void Fill(PageTable table, nint from)
    {
        int size = _memory.PageSize;
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            if (zero)
                continue;
            if (!_memory.TryFill(run, from))
            {
                _canFill = false;
                PageBytes.Copy(from, _memory.Address + (nint)(run.First * size), (long)run.Count * size);
            }

            from += (nint)run.Count * size;
        }
    }

    // Digests of what arrived, in guest memory (direct) or packed in staging. Pages that differ go to _suspects.
    private int Compare(PageTable table, nint start, bool direct)
    {
        int size = _memory.PageSize;
        int suspects = 0;
        int data = 0;
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            if (zero)
                continue;
            for (long page = run.First; page < run.End; page++)
            {
                nint address = start + (nint)((direct ? page : data) * size);
                if (Xxh3.Hash64(address, size) != table.Digest(data++))
                    _suspects[suspects++] = page;
            }
        }

        return suspects;
    }

    private FabricException Corrupt(long page) =>
        new(ErrorCodes.Corrupt, $"Page {page} was damaged on its way: its digest differs although nothing wrote it (on the {_channel.Name}).");
}

/// <summary>
/// What the push phase left where: pages that hold data here, and pages whose last copy did not match its digest. Many receivers; one lock,
/// taken once per frame.
/// </summary>
internal sealed class PushBooks(IGuestMemory memory)
{
    private readonly Lock _gate = new();

    // Pages that were written through this process's mapping: a further write does not fault.
    private readonly PageBitmap _mapped = new(memory.PageCount);
    private long _data;
    private long _zero;

    /// <summary>Pages that hold data here. To be read when no receiver runs (behind a barrier).</summary>
    public PageBitmap Filled { get; } = new(memory.PageCount);

    /// <summary>Pages that must come again. As <see cref="Filled"/>.</summary>
    public PageBitmap Suspect { get; } = new(memory.PageCount);

    public long DataPages => Volatile.Read(ref _data);

    public long ZeroPages => Volatile.Read(ref _zero);

    /// <summary>
    /// True if no data page of the table is filled. Needs no lock: between two barriers a page comes at most once, so nobody else changes these bits,
    /// and bits of others in the same words do not matter.
    /// </summary>
    public bool AllNew(PageTable table)
    {
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            if (!zero && Filled.AnySet(run))
                return false;
        }

        return true;
    }

    /// <summary>True if every page of the run is filled. No lock, as <see cref="AllNew"/>.</summary>
    public bool AllHeld(PageRun run) => Filled.AllSet(run);

    /// <summary>True if writing the run through the mapping will not fault. No lock, as <see cref="AllNew"/>.</summary>
    public bool AllMapped(PageRun run) => _mapped.AllSet(run);

    /// <summary>What is filled now; any thread, also while receivers run.</summary>
    public void CopyFilled(PageBitmap pages)
    {
        lock (_gate)
            pages.CopyFrom(Filled);
    }

    /// <summary>
    /// What is filled of <paramref name="pages"/>, which lie in the map from word <paramref name="first"/> on, counts as filled no more and is added to <paramref name="taken"/>; the caller discards
    /// it. False: there is none. Any thread, also while receivers run.
    /// </summary>
    public bool Take(int first, ReadOnlySpan<ulong> pages, PageBitmap taken)
    {
        lock (_gate)
            return Filled.MoveTo(taken, first, pages);
    }

    public void Note(PageTable table, ReadOnlySpan<long> suspects, bool mapped)
    {
        lock (_gate)
        {
            for (int i = 0; i < table.RunCount; i++)
            {
                PageRun run = table.Run(i, out bool zero);
                Suspect.ClearRun(run);
                if (zero)
                    Punch(run);
                else
                    Fill(run, mapped);
            }

            foreach (long page in suspects)
                Suspect[page] = true;
            _data += table.DataPages;
            _zero += table.PageCount - table.DataPages;
        }
    }

    private void Fill(PageRun run, bool mapped)
    {
        Filled.SetRun(run);
        if (mapped)
            _mapped.SetRun(run);
    }

    // A page that was never filled is a hole already and reads as zeros.
    private void Punch(PageRun run)
    {
        var left = run;
        while (Filled.TryNextRun(left, out PageRun held))
        {
            memory.Discard(held);
            Filled.ClearRun(held);
            _mapped.ClearRun(held);
            left = new PageRun(held.End, (int)(run.End - held.End));
        }
    }
}
