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
    private MappedMemory? _staging;

    public PageReceiver(DataChannel channel, IGuestMemory memory, PushBooks books, VerifyLevel verify)
    {
        _channel = channel;
        _memory = memory;
        _books = books;
        _verify = verify != VerifyLevel.None;
    }

    /// <summary>The rest of a Pages frame of the push phase or of the stopped copy, whose table is in <paramref name="body"/>.</summary>
    public void TakePushed(FrameHeader header, ReadOnlySpan<byte> body)
    {
        int size = _memory.PageSize;
        if (!PageTable.TryDecode(body, header.BodyLength, _memory.PageCount, size, out PageTable table, out FabricError? error))
            throw new FabricException(error);
        nint start = _memory.Address;
        _areas.Clear();
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            if (!zero)
                _areas.Add(start + (nint)(run.First * size), (long)run.Count * size);
        }

        _channel.ReceiveData(_areas);
        int suspects = _verify ? Compare(table, start, direct: true) : 0;
        if (suspects > 0 && ((PageFlags)header.Flags & PageFlags.Frozen) != PageFlags.None)
            throw Corrupt(_suspects[0]);
        _books.Note(table, _suspects.AsSpan(0, suspects));
    }

    /// <summary>The rest of a Pages frame of the pull: into staging, checked strictly, installed, and only then marked as arrived.</summary>
    public void TakePulled(FrameHeader header, ReadOnlySpan<byte> body, PullSink sink)
    {
        int size = _memory.PageSize;
        if (!PageTable.TryDecode(body, header.BodyLength, _memory.PageCount, size, out PageTable table, out FabricError? error))
            throw new FabricException(error);
        _staging ??= MappedMemory.Anonymous((long)Limits.PagesPerFrame * size);
        nint at = _staging.Address;
        _areas.Clear();
        _areas.Add(at, (long)table.DataPages * size);
        _channel.ReceiveData(_areas);
        if (_verify && Compare(table, at, direct: false) > 0)
            throw Corrupt(_suspects[0]);
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            sink.Install(run, zero ? 0 : at);
            at += zero ? 0 : (nint)run.Count * size;
        }
    }

    public void Dispose() => _staging?.Dispose();

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
    private long _data;
    private long _zero;

    /// <summary>Pages that hold data here. To be read when no receiver runs (behind a barrier).</summary>
    public PageBitmap Filled { get; } = new(memory.PageCount);

    /// <summary>Pages that must come again. As <see cref="Filled"/>.</summary>
    public PageBitmap Suspect { get; } = new(memory.PageCount);

    public long DataPages => Volatile.Read(ref _data);

    public long ZeroPages => Volatile.Read(ref _zero);

    public void Note(PageTable table, ReadOnlySpan<long> suspects)
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
                    Filled.SetRun(run);
            }

            foreach (long page in suspects)
                Suspect[page] = true;
            _data += table.DataPages;
            _zero += table.PageCount - table.DataPages;
        }
    }

    // A page that was never filled is a hole already and reads as zeros.
    private void Punch(PageRun run)
    {
        long from = run.First;
        while (Filled.TryNextRun(from, (int)(run.End - from), out PageRun held) && held.First < run.End)
        {
            PageRun inside = held with { Count = (int)(Math.Min(held.End, run.End) - held.First) };
            memory.Discard(inside);
            Filled.ClearRun(inside);
            from = inside.End;
            if (from >= run.End)
                break;
        }
    }
}
