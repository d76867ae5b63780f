using Fabric.Core;
using Fabric.Native;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Incoming;

/// <summary>Receives the packed data of a frame and lays its pages out one behind the other. One thread; its memory is made with the first such frame.</summary>
/// <param name="channel">Where the data comes.</param>
/// <param name="agreed">What the source may use; anything else is malformed.</param>
/// <param name="pageSize">Bytes.</param>
internal sealed class PageUnpacker(DataChannel channel, Packings agreed, int pageSize) : IDisposable
{
    private readonly SocketIoVectors _area = new(1);
    private readonly BlockCodecs _codecs = new(agreed);
    private MappedMemory? _packed;

    /// <summary>Receives the data behind a table into <paramref name="pages"/>, which has room for the pages of a frame.</summary>
    /// <exception cref="FabricException">malformed: not agreed on, or it does not unpack; unreachable; deadline-exceeded.</exception>
    public void Receive(PageTable table, nint pages)
    {
        int whole = table.DataPages * pageSize;
        if (table.Packing == Packing.Stored)
        {
            Receive(pages, whole);
            return;
        }

        var codec = _codecs.For(table.Packing) ?? throw channel.Malformed($"pages packed as {table.Packing} where {agreed} was agreed on");
        _packed ??= MappedMemory.Anonymous((long)Limits.PagesPerFrame * pageSize);
        Receive(_packed.Address, table.DataLength);
        if (!codec.TryUnpack(_packed.Address, table.DataLength, pages, whole))
            throw channel.Malformed($"{table.DataLength} bytes that do not unpack ({table.Packing}) to {table.DataPages} pages");
    }

    /// <summary>Makes the pages of a push whole that came as their difference from what is here.</summary>
    /// <exception cref="FabricException">malformed: not agreed on, or nothing is here.</exception>
    public void AddDeltas(PageTable table, nint pages, nint memory, PushBooks books)
    {
        for (int i = 0; i < table.RunCount; i++)
        {
            PageRun run = table.Run(i, out bool zero);
            if (zero)
                continue;
            long length = (long)run.Count * pageSize;
            if (table.IsDelta(i))
            {
                if ((agreed & Packings.Delta) == Packings.None || !books.AllHeld(run))
                    throw channel.Malformed($"the difference of pages {run.First} + {run.Count} from what is not here");
                PageBytes.Subtract(pages, memory + (nint)(run.First * pageSize), (int)length);
            }

            pages += (nint)length;
        }
    }

    /// <summary>What is pulled was never here.</summary>
    /// <exception cref="FabricException">malformed.</exception>
    public void RefuseDeltas(PageTable table)
    {
        for (int i = 0; i < table.RunCount; i++)
        {
            if (table.IsDelta(i))
                throw channel.Malformed($"a difference in a pull (page {table.Run(i, out _).First})");
        }
    }

    public void Dispose()
    {
        _packed?.Dispose();
        _codecs.Dispose();
    }

    private void Receive(nint to, int length)
    {
        _area.Clear();
        _area.Add(to, length);
        channel.ReceiveData(_area);
    }
}
