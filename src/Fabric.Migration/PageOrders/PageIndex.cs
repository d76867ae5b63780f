// Where a map of pages has any: marks above the map's words, and marks above the marks, 64 to one.
//
//   level 1      one bit for 64 bits of level 0                     2^12 pages a bit… and so on upwards, to one word
//   level 0      one bit for each word of the map: it may have a page     64 pages a bit
//   the map      one bit per page
//
// Going to the next page over a hole, of whatever size, climbs until a level has a mark ahead and goes down again: as many steps as there are levels,
// five for 2^30 pages. Pages are only ever cleared while an index is in use, and not by the index: a mark may be stale, and is taken away when a scan
// finds its word empty, which happens once for each word. For 2^30 pages the marks take 2.1 MiB.
using System.Numerics;
using Fabric.Core;

namespace Fabric.Migration.PageOrders;

/// <summary>
/// Finds the next or previous page of a map in a constant number of steps (amortised over the pages that are cleared). One thread at a time; the map's
/// bits may be cleared by any thread meanwhile, but never set.
/// </summary>
public sealed class PageIndex
{
    private readonly PageBitmap _pages;
    private readonly ulong[][] _levels;

    /// <summary>Reads the map once.</summary>
    public PageIndex(PageBitmap pages)
    {
        ArgumentNullException.ThrowIfNull(pages);
        _pages = pages;
        List<ulong[]> levels = [];
        levels.Add(MarksAbove(pages.Words));
        while (levels[^1].Length > 1)
            levels.Add(MarksAbove(levels[^1]));
        _levels = [.. levels];
    }

    /// <summary>For another map that has the same pages now. Does not read it.</summary>
    public PageIndex(PageBitmap pages, PageIndex same)
    {
        ArgumentNullException.ThrowIfNull(pages);
        ArgumentNullException.ThrowIfNull(same);
        ArgumentOutOfRangeException.ThrowIfNotEqual(pages.Length, same._pages.Length);
        _pages = pages;
        _levels = [.. same._levels.Select(marks => (ulong[])marks.Clone())];
    }

    /// <summary>The first page at or after <paramref name="from"/> (0 or more), or -1.</summary>
    public long Next(long from)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(from);
        if (from >= _pages.Length)
            return -1;
        ReadOnlySpan<ulong> words = _pages.Words;
        long at = from >> 6;
        ulong word = words[(int)at] & (ulong.MaxValue << (int)(from & 63));
        while (word == 0)
        {
            ForgetIfEmpty(words, at);
            at = NextMark(at + 1);
            if (at < 0)
                return -1;
            word = words[(int)at];
        }

        return (at << 6) + BitOperations.TrailingZeroCount(word);
    }

    /// <summary>The last page at or before <paramref name="from"/> (-1 up to the map's last page), or -1.</summary>
    public long Previous(long from)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(from, _pages.Length);
        if (from < 0)
            return -1;
        ReadOnlySpan<ulong> words = _pages.Words;
        long at = from >> 6;
        ulong word = words[(int)at] & (ulong.MaxValue >> (int)(63 - (from & 63)));
        while (word == 0)
        {
            ForgetIfEmpty(words, at);
            at = PreviousMark(at - 1);
            if (at < 0)
                return -1;
            word = words[(int)at];
        }

        return (at << 6) + 63 - BitOperations.LeadingZeroCount(word);
    }

    private static ulong[] MarksAbove(ReadOnlySpan<ulong> words)
    {
        ulong[] marks = new ulong[(words.Length + 63) >> 6];
        for (int i = 0; i < words.Length; i++)
            marks[i >> 6] |= (words[i] != 0 ? 1UL : 0UL) << (i & 63);
        return marks;
    }

    private void ForgetIfEmpty(ReadOnlySpan<ulong> words, long at)
    {
        if (words[(int)at] != 0)
            return;
        foreach (ulong[] marks in _levels)
        {
            marks[at >> 6] &= ~(1UL << (int)(at & 63));
            at >>= 6;
            if (marks[at] != 0)
                return;
        }
    }

    private long NextMark(long from)
    {
        for (int level = 0; level < _levels.Length; level++)
        {
            long at = from >> 6;
            if (at >= _levels[level].Length)
                return -1;
            ulong marks = _levels[level][at] & (ulong.MaxValue << (int)(from & 63));
            if (marks != 0)
                return First(level, (at << 6) + BitOperations.TrailingZeroCount(marks));
            from = at + 1;
        }

        return -1;
    }

    private long PreviousMark(long from)
    {
        for (int level = 0; level < _levels.Length && from >= 0; level++)
        {
            long at = from >> 6;
            ulong marks = _levels[level][at] & (ulong.MaxValue >> (int)(63 - (from & 63)));
            if (marks != 0)
                return Last(level, (at << 6) + 63 - BitOperations.LeadingZeroCount(marks));
            from = at - 1;
        }

        return -1;
    }

    // A mark above is there exactly while the word of marks below it is not zero.
    private long First(int level, long at)
    {
        while (level-- > 0)
            at = (at << 6) + BitOperations.TrailingZeroCount(_levels[level][at]);
        return at;
    }

    private long Last(int level, long at)
    {
        while (level-- > 0)
            at = (at << 6) + 63 - BitOperations.LeadingZeroCount(_levels[level][at]);
        return at;
    }
}
