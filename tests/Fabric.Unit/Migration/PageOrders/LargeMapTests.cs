using System.Diagnostics;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Xunit;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>
/// A VM of 4 TiB. Its map has few pages, far apart, so that a scan which goes over the holes again for each chunk or each fault would take hours; everything must come, within
/// seconds, and besides the maps themselves next to no memory may be taken.
/// </summary>
public sealed class LargeMapTests
{
    private const long Length = 1L << 30;
    private const int Islands = 2000;
    private const int IslandPages = 50;

    [Fact]
    public void Over_holes_of_a_tebibyte_every_page_comes_and_quickly()
    {
        // The first call of anything allocates; what is measured is the second.
        PageBitmap small = new(Islands * 8192L);
        PageBitmap remaining = new(Length);
        PageBitmap spare = new(Length);
        foreach (PageOrder variant in (PageOrder[])[PageOrder.PushOnly, PageOrder.Forward, PageOrder.Dual, PageOrder.ForwardMulti, PageOrder.DualMulti])
        {
            PushAll(variant, small, null);
            Figures figures = PushAll(variant, remaining, spare);
            Assert.Equal(Islands * (long)IslandPages, figures.Came);
            Assert.InRange(figures.BytesMade, 0, 5 * ByteSize.Mebi);
            Assert.Equal(0, figures.BytesWhilePushing);
            // 100 000 pages and some 1500 faults: milliseconds. A scan over the hole for each fault would be 1500 × 2^24 words.
            Assert.True(figures.Took < TimeSpan.FromSeconds(1), $"{variant}: {figures.Took}");
        }
    }

    private static Figures PushAll(PageOrder variant, PageBitmap remaining, PageBitmap? spare)
    {
        // Two clusters, at the ends of memory, with nothing in between; in the clusters, islands.
        for (int island = 0; island < Islands; island++)
            remaining.SetRun(new PageRun(Start(island, remaining.Length), IslandPages));
        long[] pages = new long[64];
        bool lower = false;
        long before = GC.GetAllocatedBytesForCurrentThread();
        IPageOrder order = new PullPlan(variant).Begin(remaining, spare);
        long made = GC.GetAllocatedBytesForCurrentThread() - before;
        long came = 0;
        long began = Stopwatch.GetTimestamp();
        for (int count; (count = order.Claim(pages)) > 0; came += count)
        {
            // Faults at both rims of the hole, by turns, over and over: from either the next page may lie on the other side, and a plain scan would cross the hole.
            lower = !lower;
            long page = lower ? Start((Islands / 2) - 1, remaining.Length) + IslandPages - 1 : Start(Islands / 2, remaining.Length);
            came += remaining.AtomicClear(page) ? 1 : 0;
            order.Faulted(page);
        }

        TimeSpan took = Stopwatch.GetElapsedTime(began);
        return new Figures(came, took, made, GC.GetAllocatedBytesForCurrentThread() - before - made);
    }

    private static long Start(int island, long length) => island < Islands / 2 ? island * 4096L : length - ((Islands - island) * 4096L);

    private readonly record struct Figures(long Came, TimeSpan Took, long BytesMade, long BytesWhilePushing);
}
