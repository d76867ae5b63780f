using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>What goes along with wanted pages, and how large the frames of bulk are: on maps and clocks of the test's own.</summary>
public sealed class ReadAheadTests
{
    [Fact]
    public void A_walk_is_given_twice_as_much_with_each_fault_up_to_a_bound()
    {
        ReadAhead ahead = new();
        long page = 1000;
        foreach (int expected in (int[])[4, 8, 16, 32, 64, 64])
        {
            Assert.Equal(expected, ahead.Begin(page));
            Assert.True(ahead.IsForward);
            Assert.Equal(page + 1, ahead.Next);
            ahead.Next += expected;
            page = ahead.Next;
        }
    }

    [Fact]
    public void A_walk_that_goes_back_is_followed_back()
    {
        ReadAhead ahead = new();
        Assert.Equal(4, ahead.Begin(1000));
        Assert.Equal(8, ahead.Begin(999));
        Assert.False(ahead.IsForward);
        Assert.Equal(998, ahead.Next);
        ahead.Next -= 8;
        Assert.Equal(16, ahead.Begin(ahead.Next));
        Assert.False(ahead.IsForward);
    }

    [Fact]
    public void Faults_that_lie_apart_are_walks_of_their_own_and_the_one_seen_least_lately_makes_room()
    {
        ReadAhead ahead = new();
        for (int walk = 0; walk < 8; walk++)
            Assert.Equal(4, ahead.Begin(walk * 10_000L));
        Assert.Equal(8, ahead.Begin(1)); // the first goes on
        Assert.Equal(4, ahead.Begin(90_000)); // a ninth: the second makes room
        Assert.Equal(4, ahead.Begin(10_001));
        Assert.Equal(16, ahead.Begin(2));
    }

    [Theory]
    [InlineData(true, new long[] { 12, 13, 16 })]
    [InlineData(false, new long[] { 6, 8, 9 })]
    public void What_others_have_sent_is_stepped_over_and_each_page_is_claimed_once(bool forward, long[] expected)
    {
        PageBitmap missing = Map(64);
        foreach (long sent in (long[])[10, 11, 14, 15, 7])
            missing[sent] = false;
        PullSource source = new(missing, missing.CountSet(), new PullPlan().Begin(missing));
        long[] pages = new long[3];
        long next = forward ? 11 : 9;
        Assert.Equal(3, source.ClaimAhead(ref next, forward, pages));
        Assert.Equal(expected, pages);
        Assert.Equal(forward ? 17 : 5, next);
        Assert.Equal(0, pages.Count(p => missing[p]));
        Assert.Equal(64 - 5 - 3, source.Left);
    }

    [Fact]
    public void The_search_ends_where_nothing_is_missing_and_at_the_ends_of_memory()
    {
        PageBitmap missing = Map(100);
        missing.ClearRun(new PageRun(0, 99));
        PullSource source = new(missing, 1, new PullPlan().Begin(missing));
        long[] pages = new long[2];
        long next = 1;
        Assert.Equal(0, source.ClaimAhead(ref next, forward: true, pages));
        Assert.Equal(17, next);
        next = 98;
        Assert.Equal(1, source.ClaimAhead(ref next, forward: true, pages));
        Assert.Equal(100, next);
        Assert.Equal(0, source.ClaimAhead(ref next, forward: true, pages));
        next = 0;
        Assert.Equal(0, source.ClaimAhead(ref next, forward: false, pages));
        Assert.Equal(-1, next);
    }

    [Theory]
    [InlineData(PageOrder.DualMulti)]
    [InlineData(PageOrder.Dual)]
    public void The_push_goes_on_beyond_what_went_along(PageOrder order)
    {
        PageBitmap missing = Map(1000);
        PullSource source = new(missing, 1000, new PullPlan(order).Begin(missing));
        long[] pages = [500, 0, 0, 0];
        source.ClaimWanted(pages.AsSpan(0, 1));
        long next = 501;
        Assert.Equal(4, source.ClaimAhead(ref next, forward: true, pages));
        Assert.Equal(2, source.Claim(pages.AsSpan(0, 2)));
        Assert.Equal([505, 506], pages[..2]);
    }

    [Fact]
    public void The_push_goes_on_beyond_the_block_of_a_fault()
    {
        PageBitmap missing = Map(1000);
        PullSource source = new(missing, 1000, new PullPlan().Begin(missing));
        long[] pages = new long[16];
        pages[0] = 500;
        Assert.Equal(7, source.ClaimAround(pages, source.ClaimWanted(pages.AsSpan(0, 1)), shift: 3));
        Assert.Equal([496, 497, 498, 499, 501, 502, 503], pages[1..8]);
        Assert.Equal(2, source.Claim(pages.AsSpan(0, 2)));
        Assert.Equal([504, 505], pages[..2]);
    }

    [Theory]
    [InlineData(117, 1, 14, 64 * 1024)] // 1 Gb/s
    [InlineData(117, 3, 42, 64 * 1024)] // and memory that packs well
    [InlineData(600, 1, 64, 150_000)]
    [InlineData(3000, 1, 64, 256 * 1024)]
    [InlineData(1, 1, 8, 64 * 1024)]
    public void A_frame_takes_half_a_millisecond_within_bounds(int megabytesPerSecond, int packed, int pages, int unsent)
    {
        ManualTime time = new();
        PullPace pace = new(TransferSettings.Default, connections: 2, time);
        Assert.Equal(8, pace.FramePages);
        time.Advance(TimeSpan.FromMilliseconds(10));
        pace.Sent(megabytesPerSecond * 10_000L, megabytesPerSecond * 10_000 / 4096 * packed);
        Assert.Equal(pages, pace.FramePages);
        Assert.Equal(unsent, pace.UnsentBytes);
    }

    private static PageBitmap Map(long pages)
    {
        PageBitmap map = new(pages);
        map.SetAll();
        return map;
    }
}
