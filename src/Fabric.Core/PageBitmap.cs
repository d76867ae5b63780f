using System.Numerics;

namespace Fabric.Core;

/// <summary><paramref name="Count"/> pages in a row, beginning with page <paramref name="First"/> of the memory file.</summary>
public readonly record struct PageRun(long First, int Count)
{
    /// <summary>The page after the last.</summary>
    public long End => First + Count;
}

/// <summary>
/// One bit per guest page. Reads and the plain writers belong to one thread at a time; the members whose names begin
/// with <c>Atomic</c> may be used by many threads at once, beside each other and beside reads.
/// </summary>
public sealed class PageBitmap
{
    private readonly ulong[] _words;

    /// <param name="length">Number of pages, 0 to 2^36.</param>
    public PageBitmap(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, 1L << 36);
        Length = length;
        _words = new ulong[(length + 63) >> 6];
    }

    public long Length { get; }

    /// <summary>The bits themselves, page 0 in the lowest bit of word 0. Bits at and above <see cref="Length"/> are always 0.</summary>
    public ReadOnlySpan<ulong> Words => _words;

    public bool this[long page]
    {
        get => (_words[Index(page)] >> (int)(page & 63) & 1) != 0;
        set
        {
            if (value)
                _words[Index(page)] |= 1UL << (int)(page & 63);
            else
                _words[Index(page)] &= ~(1UL << (int)(page & 63));
        }
    }

    /// <summary>Sets the bit; true when this call was the one that set it.</summary>
    public bool AtomicSet(long page)
    {
        ulong bit = 1UL << (int)(page & 63);
        return (Interlocked.Or(ref _words[Index(page)], bit) & bit) == 0;
    }

    /// <summary>Clears the bit; true when this call was the one that cleared it.</summary>
    public bool AtomicClear(long page)
    {
        ulong bit = 1UL << (int)(page & 63);
        return (Interlocked.And(ref _words[Index(page)], ~bit) & bit) != 0;
    }

    public void SetRun(PageRun run) => Fill(run, set: true);

    public void ClearRun(PageRun run) => Fill(run, set: false);

    public void Clear() => Array.Clear(_words);

    public void SetAll()
    {
        Array.Fill(_words, ulong.MaxValue);
        TrimTail();
    }

    public long CountSet()
    {
        long count = 0;
        foreach (ulong word in _words)
            count += BitOperations.PopCount(word);
        return count;
    }

    public bool IsEmpty => !_words.AsSpan().ContainsAnyExcept(0UL);

    public void CopyFrom(PageBitmap other)
    {
        SameLength(other);
        other._words.CopyTo(_words, 0);
    }

    /// <summary>Replaces all bits. Bits above <see cref="Length"/> are dropped.</summary>
    public void CopyFrom(ReadOnlySpan<ulong> words)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(words.Length, _words.Length);
        words.CopyTo(_words);
        TrimTail();
    }

    public void Or(PageBitmap other)
    {
        SameLength(other);
        for (int i = 0; i < _words.Length; i++)
            _words[i] |= other._words[i];
    }

    public void And(PageBitmap other)
    {
        SameLength(other);
        for (int i = 0; i < _words.Length; i++)
            _words[i] &= other._words[i];
    }

    public void AndNot(PageBitmap other)
    {
        SameLength(other);
        AndNot(other.Words);
    }

    /// <summary>Clears the bits that are set in <paramref name="words"/>.</summary>
    public void AndNot(ReadOnlySpan<ulong> words)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(words.Length, _words.Length);
        for (int i = 0; i < words.Length; i++)
            _words[i] &= ~words[i];
    }

    /// <summary>
    /// Of the pages that are set in <paramref name="words"/>, which lie in the map from word <paramref name="first"/> on, those that are set here are cleared here and set in
    /// <paramref name="target"/>. False: there were none, and nothing was written to.
    /// </summary>
    public bool MoveTo(PageBitmap target, int first, ReadOnlySpan<ulong> words)
    {
        SameLength(target);
        Span<ulong> mine = _words.AsSpan(first, words.Length);
        Span<ulong> theirs = target._words.AsSpan(first, words.Length);
        bool any = false;
        for (int i = 0; i < words.Length; i++)
        {
            ulong moved = mine[i] & words[i];
            if (moved == 0)
                continue;
            theirs[i] |= moved;
            mine[i] &= ~moved;
            any = true;
        }

        return any;
    }

    /// <summary>Clears the bits of each group of 64 pages, from the first page on, in which no more than <paramref name="lone"/> are set.</summary>
    public void KeepCrowded(int lone)
    {
        foreach (ref ulong word in _words.AsSpan())
        {
            if (BitOperations.PopCount(word) <= lone)
                word = 0;
        }
    }

    /// <summary>Clears the bits that <see cref="KeepCrowded"/> keeps.</summary>
    public void KeepLone(int lone)
    {
        foreach (ref ulong word in _words.AsSpan())
        {
            if (BitOperations.PopCount(word) > lone)
                word = 0;
        }
    }

    /// <summary>The first set page at or after <paramref name="from"/>, or -1.</summary>
    public long NextSet(long from) => Next(from, Length, 0);

    /// <summary>The first set page at or after <paramref name="from"/> and before <paramref name="end"/>, or -1. Looks at no word beyond.</summary>
    public long NextSet(long from, long end) => Next(from, end, 0);

    /// <summary>The first clear page at or after <paramref name="from"/>, or -1.</summary>
    public long NextClear(long from) => Next(from, Length, ulong.MaxValue);

    /// <summary>Whether a page of the run is set. Looks at the run's own words only.</summary>
    public bool AnySet(PageRun run) => NextSet(run.First, run.End) >= 0;

    /// <summary>Whether every page of the run is set. Looks at the run's own words only.</summary>
    public bool AllSet(PageRun run) => Next(run.First, run.End, ulong.MaxValue) < 0;

    /// <summary>The first run of set pages at or after <paramref name="from"/>, cut at <paramref name="most"/> pages; false at the end.</summary>
    public bool TryNextRun(long from, int most, out PageRun run) => TryNextRun(from, Length, most, out run);

    /// <summary>The first run of set pages inside <paramref name="within"/>, cut at its ends; false if there is none. Looks at its words only.</summary>
    public bool TryNextRun(PageRun within, out PageRun run) => TryNextRun(within.First, within.End, within.Count, out run);

    private bool TryNextRun(long from, long limit, int most, out PageRun run)
    {
        run = default;
        long first = Next(from, limit, 0);
        if (first < 0)
            return false;
        long stop = Math.Min(limit, first + most);
        long end = Next(first, stop, ulong.MaxValue);
        run = new PageRun(first, (int)((end < 0 ? stop : end) - first));
        return true;
    }

    private int Index(long page)
    {
        if ((ulong)page >= (ulong)Length)
            throw new ArgumentOutOfRangeException(nameof(page), page, $"The bitmap has {Length} pages.");
        return (int)(page >> 6);
    }

    // The first page of [from, end) whose bit differs from that of flip, or -1. No word beyond is read: memory may have a billion pages, and who asks for a few asks often.
    private long Next(long from, long end, ulong flip)
    {
        end = Math.Min(end, Length);
        if (from < 0 || from >= end)
            return -1;
        int index = (int)(from >> 6);
        int last = (int)((end - 1) >> 6);
        ulong word = (_words[index] ^ flip) & (ulong.MaxValue << (int)(from & 63));
        while (word == 0)
        {
            if (++index > last)
                return -1;
            word = _words[index] ^ flip;
        }

        long page = ((long)index << 6) + BitOperations.TrailingZeroCount(word);
        return page < end ? page : -1;
    }

    private void Fill(PageRun run, bool set)
    {
        if (run.Count <= 0)
            return;
        Index(run.First);
        Index(run.End - 1);
        long page = run.First;
        while (page < run.End)
        {
            int index = (int)(page >> 6);
            long stop = Math.Min(run.End, (page | 63) + 1);
            int bits = (int)(stop - page);
            ulong mask = (bits == 64 ? ulong.MaxValue : (1UL << bits) - 1) << (int)(page & 63);
            _words[index] = set ? _words[index] | mask : _words[index] & ~mask;
            page = stop;
        }
    }

    private void TrimTail()
    {
        if ((Length & 63) != 0)
            _words[^1] &= (1UL << (int)(Length & 63)) - 1;
    }

    private void SameLength(PageBitmap other)
    {
        ArgumentNullException.ThrowIfNull(other);
        ArgumentOutOfRangeException.ThrowIfNotEqual(other.Length, Length);
    }
}
