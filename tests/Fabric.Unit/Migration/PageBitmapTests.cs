using Fabric.Core;
using Xunit;

namespace Fabric.Unit.Migration;

/// <summary>Searches of a bitmap beside the same on an array of booleans, over maps whose runs begin and end in, at and across words.</summary>
public sealed class PageBitmapTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(64)]
    [InlineData(200)]
    [InlineData(1000)]
    public void Searches_find_what_a_walk_finds(int length)
    {
        var random = new Random(length);
        for (int trial = 0; trial < 40; trial++)
        {
            var (map, bits) = Draw(length, random);
            for (int i = 0; i < 200; i++)
            {
                int from = random.Next(length + 1);
                int end = random.Next(from, length + 70);
                int stop = Math.Min(end, length);
                Assert.Equal(Walk(bits, from, length, set: true), map.NextSet(from));
                Assert.Equal(Walk(bits, from, length, set: false), map.NextClear(from));
                Assert.Equal(Walk(bits, from, stop, set: true), map.NextSet(from, end));
                var run = new PageRun(from, stop - from);
                Assert.Equal(Walk(bits, from, stop, set: true) >= 0, map.AnySet(run));
                Assert.Equal(Walk(bits, from, stop, set: false) < 0, map.AllSet(run));
                Assert.Equal(FirstRun(bits, from, stop, int.MaxValue), map.TryNextRun(run, out PageRun inside) ? inside : null);
                int most = random.Next(1, 100);
                Assert.Equal(FirstRun(bits, from, length, most), map.TryNextRun(from, most, out PageRun next) ? next : null);
            }
        }
    }

    private static (PageBitmap Map, bool[] Bits) Draw(int length, Random random)
    {
        var map = new PageBitmap(length);
        bool[] bits = new bool[length];
        bool set = random.Next(2) == 0;
        for (int at = 0; at < length; set = !set)
        {
            int count = Math.Min(length - at, random.Next(3) == 0 ? random.Next(1, 4) : random.Next(1, 300));
            if (set)
            {
                map.SetRun(new PageRun(at, count));
                bits.AsSpan(at, count).Fill(true);
            }

            at += count;
        }

        return (map, bits);
    }

    private static long Walk(bool[] bits, int from, int end, bool set)
    {
        for (int page = from; page < end; page++)
        {
            if (bits[page] == set)
                return page;
        }

        return -1;
    }

    private static PageRun? FirstRun(bool[] bits, int from, int end, int most)
    {
        int first = (int)Walk(bits, from, end, set: true);
        if (first < 0)
            return null;
        int stop = (int)Math.Min(end, (long)first + most);
        int after = (int)Walk(bits, first, stop, set: false);
        return new PageRun(first, (after < 0 ? stop : after) - first);
    }
}
