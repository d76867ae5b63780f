using Fabric.Core;
using Fabric.Migration.PageOrders;
using Xunit;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>Compared with a sorted set, on maps of up to four levels while pages are cleared behind the index's back.</summary>
public sealed class PageIndexTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(64)]
    [InlineData(65)]
    [InlineData(4096)]
    [InlineData(4097)]
    [InlineData(300_000)]
    [InlineData(20_000_000)]
    public void It_finds_what_a_sorted_set_finds(int length)
    {
        Random random = new(length);
        PageBitmap map = new(length);
        SortedSet<long> set = [];
        for (int i = 0; i < Math.Min(length, 400); i++)
        {
            long first = random.NextInt64(length);
            for (long page = first; page < Math.Min(length, first + random.Next(4)); page++)
            {
                map[page] = true;
                set.Add(page);
            }
        }

        PageIndex index = new(map);
        PageIndex copy = new(map, index);
        while (set.Count > 0)
        {
            for (int look = 0; look < 5; look++)
            {
                long from = look == 0 ? set.ElementAt(random.Next(set.Count)) : random.NextInt64(length);
                Assert.Equal(First(set.GetViewBetween(from, long.MaxValue)), index.Next(from));
                Assert.Equal(First(set.GetViewBetween(from, long.MaxValue)), copy.Next(from));
                var upTo = set.GetViewBetween(0, from);
                Assert.Equal(upTo.Count == 0 ? -1 : upTo.Max, index.Previous(from));
            }

            long gone = set.ElementAt(random.Next(set.Count));
            set.Remove(gone);
            map.AtomicClear(gone);
        }

        Assert.Equal(-1, index.Next(0));
        Assert.Equal(-1, index.Next(length));
        Assert.Equal(-1, index.Previous(length - 1));
        Assert.Equal(-1, index.Previous(-1));

        static long First(SortedSet<long> pages) => pages.Count == 0 ? -1 : pages.Min;
    }
}
