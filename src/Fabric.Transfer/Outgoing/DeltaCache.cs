// The copies of pages that the destination is known to hold, so that a page that is sent again can go as its difference. Many senders; no lock.
//
//   slot = page mod slots       tag of a slot:   -1 ──Keep──▶ page ──TryDelta──▶ page
//                                                 ▲            │ ▲                │
//                                                 └── Forget ──┘ └─ Keep (another page takes the slot)
//
//   Whoever changes a slot's bytes first exchanges its tag for -2 (busy) and owns the slot until it writes the page's number there. Nobody waits:
//   a slot that is busy holds another page, or is about to, and the page at hand goes without.
//
// Why the copy is what the destination holds. A page is sent by one sender at a time: a job gives each page once, and jobs follow one another. So only that
// sender asks for this page's tag, and every way to send a page ends with the slot holding exactly what was sent (TryDelta, Keep) or not holding the page
// (Forget, also for zeros and for what was sent straight from the memory that the guest writes). Others can only take the slot away.
using Fabric.Native;

namespace Fabric.Transfer.Outgoing;

/// <summary>Pages as they were last sent. All memory is made with it, and used as it fills.</summary>
internal sealed class DeltaCache : IDisposable
{
    private const long Empty = -1;
    private const long Busy = -2;

    private readonly MappedMemory _copies;
    private readonly long[] _tags;
    private readonly ulong[] _rounds; // in which the slot's page was sent last; its owner's, and read without care: a page more or less is kept
    private readonly int _pageSize;

    /// <param name="slots">Pages that are kept at most.</param>
    /// <param name="pageSize">Bytes, a multiple of 64.</param>
    public DeltaCache(int slots, int pageSize)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(slots, 1);
        _pageSize = pageSize;
        _copies = MappedMemory.Anonymous((long)slots * pageSize);
        _tags = new long[slots];
        _rounds = new ulong[slots];
        Array.Fill(_tags, Empty);
    }

    /// <summary>
    /// If the page is kept: leaves at <paramref name="copy"/> how it differs from what the destination holds, and keeps what it was. What is left there must then be sent.
    /// </summary>
    public bool TryDelta(long page, nint copy, ulong round)
    {
        int slot = SlotOf(page);
        if (Volatile.Read(ref _tags[slot]) != page || Interlocked.CompareExchange(ref _tags[slot], Busy, page) != page)
            return false;
        PageBytes.SubtractAndKeep(copy, At(slot), _pageSize);
        _rounds[slot] = round;
        Volatile.Write(ref _tags[slot], page);
        return true;
    }

    /// <summary>Keeps what is sent of a page that is not kept, unless its slot has a page that was sent in this round, too: of two that are sent all the time, one stays.</summary>
    public void Keep(long page, nint copy, ulong round)
    {
        int slot = SlotOf(page);
        long holds = Volatile.Read(ref _tags[slot]);
        if (holds == Busy || (holds != Empty && _rounds[slot] == round) || Interlocked.CompareExchange(ref _tags[slot], Busy, holds) != holds)
            return;
        PageBytes.Copy(copy, At(slot), _pageSize);
        _rounds[slot] = round;
        Volatile.Write(ref _tags[slot], page);
    }

    /// <summary>The destination gets something else than what is kept.</summary>
    public void Forget(long page)
    {
        int slot = SlotOf(page);
        if (Volatile.Read(ref _tags[slot]) == page)
            Interlocked.CompareExchange(ref _tags[slot], Empty, page);
    }

    /// <summary>Not while a sender may be in it.</summary>
    public void Dispose() => _copies.Dispose();

    private int SlotOf(long page) => (int)(page % _tags.Length);

    private nint At(int slot) => _copies.Address + ((nint)slot * _pageSize);
}
