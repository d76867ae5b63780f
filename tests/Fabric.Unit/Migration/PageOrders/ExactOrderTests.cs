using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Xunit;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>What each variant does, in examples small enough to be followed by hand. Turns are of one page, as in the paper, unless an example says otherwise.</summary>
public sealed class ExactOrderTests
{
    private static readonly BubbleShape Forward = BubbleShape.SinglePivot(dual: false);
    private static readonly BubbleShape Dual = BubbleShape.SinglePivot(dual: true);

    private readonly PageBitmap _remaining = new(20);

    public ExactOrderTests() => _remaining.SetAll();

    [Fact]
    public void Push_only_goes_by_address_whatever_faults() =>
        Assert.Equal("0 1 2 | 3 4 5 6 7 8 9 10 11 13 14 15 16 17 18 19", Order(Of(BubbleShape.PushOnly), 3, 12));

    [Fact]
    public void Forward_goes_on_behind_the_fault_and_around() =>
        Assert.Equal("0 1 2 | 13 14 15 16 17 18 19 3 4 5 6 7 8 9 10 11", Order(Of(Forward), 3, 12));

    [Fact]
    public void Forward_follows_the_last_fault_over_what_was_sent() =>
        Assert.Equal("0 | 16 17 | 13 14 18 19 1 2 3 4 5 6 7 8 9 10 11", Order(Of(Forward), 1, 15, 2, 12));

    [Fact]
    public void Dual_goes_both_ways_by_turns_to_both_ends() =>
        // 16 is the new pivot's first turn; then the round, forward and backward.
        Assert.Equal("0 1 | 16 17 14 18 13 19 12 11 10 9 8 7 6 5 4 3 2", Order(Of(Dual), 2, 15));

    [Fact]
    public void Dual_has_one_pivot_only() =>
        Assert.Equal("0 | 16 17 | 6 4 7 3 8 2 9 1 10 11 12 13 14 18 19", Order(Of(Dual), 1, 15, 2, 5));

    [Fact]
    public void Forward_multi_pivot_lets_bubbles_grow_side_by_side_until_they_meet() =>
        // The bubbles of 0, 10 and 5: that of 5 stops before 10, that of 0 before 5, that of 10 at the end of memory.
        Assert.Equal("0 | 11 12 1 | 6 13 7 2 14 8 3 15 9 4 16 17 18 19", Order(Of(BubbleShape.MultiPivot(dual: false, 7)), 1, 10, 3, 5));

    [Fact]
    public void Dual_multi_pivot_closes_both_edges_where_two_bubbles_meet() =>
        // 16 has its forward edge's turn, then the round: 16 forward, 16 backward, 0 forward. The last two meet between 8 and 9.
        Assert.Equal("0 1 | 17 18 15 2 19 14 3 13 4 12 5 11 6 10 7 9 8", Order(Of(BubbleShape.MultiPivot(dual: true, 7)), 2, 16));

    [Fact]
    public void The_oldest_pivot_makes_room_for_the_newest_and_its_bubble_still_stops_edges() =>
        // Two pivots: 15 takes the place of 0, 5 that of 10. What 10 sent (10 to 12) still closes the edges that come from 15 and from 5.
        Assert.Equal("0 | 11 | 16 14 12 | 6 4 17 13 7 3 18 8 2 19 9 1", Order(Of(BubbleShape.MultiPivot(dual: true, 2)), 1, 10, 1, 15, 3, 5));

    [Fact]
    public void Exhausted_edges_leave_the_rest_in_address_order() =>
        // One pivot at a time; each fault leaves its predecessor's bubble where it was.
        Assert.Equal("0 | 11 | 6 7 8 9 1 2 3 4 12 13 14 15 16 17 18 19", Order(Of(BubbleShape.MultiPivot(dual: false, 1)), 1, 10, 1, 5));

    [Fact]
    public void Edges_go_over_what_never_was_lacking_and_stop_at_what_was_sent()
    {
        foreach (long hole in (long[])[6, 7, 8])
            _remaining[hole] = false;
        var order = Of(BubbleShape.MultiPivot(dual: false, 2));
        _remaining[11] = false; // sent by somebody else
        Assert.Equal("0 | 9 10 1 2 3 4 12 13 14 15 16 17 18 19", Order(order, 1, 5));
    }

    [Fact]
    public void What_is_recent_goes_first_and_has_every_other_turn_once_something_faulted()
    {
        PageBitmap hot = BubbleOrderTests.Bitmap(20, [3, 18]);
        PageBitmap lately = BubbleOrderTests.Bitmap(20, [3, 7, 8, 9]);
        var order = new BubbleOrder(_remaining, BubbleShape.MultiPivot(dual: true, 7), [hot, lately], null, turnPages: 1);
        // 18 is gone over by the edge that comes from 16, since no bubble has been there.
        Assert.Equal("3 18 | 17 7 19 8 15 9 14 13 12 11 10 6 5 4 2 1 0", Order(order, 2, 16));
    }

    [Fact]
    public void What_is_hot_can_be_had_out_of_turn_and_edges_go_over_it()
    {
        PageBitmap[] hot = [BubbleOrderTests.Bitmap(20, [18, 19]), BubbleOrderTests.Bitmap(20, [3, 18])];
        var order = new BubbleOrder(_remaining, BubbleShape.MultiPivot(dual: true, 7), hot, null, turnPages: 1);
        long[] pages = new long[2];
        Assert.Equal(2, order.ClaimHot(pages.AsSpan(0, 2)));
        Assert.Equal([18, 19], pages);
        Assert.Equal(1, order.ClaimHot(pages));
        Assert.Equal(3, pages[0]);
        Assert.Equal(0, order.ClaimHot(pages));
        Assert.Equal("| 6 7 4 8 2 9 1 10 0 11 12 13 14 15 16 17", Order(order, 0, 5));
    }

    [Fact]
    public void A_turn_is_some_pages_of_one_edge_and_a_chunk_ascends()
    {
        var order = new BubbleOrder(_remaining, BubbleShape.MultiPivot(dual: true, 7), [], null, turnPages: 3);
        _remaining[10] = false;
        order.Faulted(10);
        long[] pages = new long[9];
        // 11–13 forward, then 0–2 of the bubble at the beginning, then three of 10's own round: forward again.
        Assert.Equal(9, order.Claim(pages));
        Assert.Equal([0, 1, 2, 11, 12, 13, 14, 15, 16], pages);
        // 7–9 backward, 3–5, 17–19.
        Assert.Equal(9, order.Claim(pages));
        Assert.Equal([3, 4, 5, 7, 8, 9, 17, 18, 19], pages);
        Assert.Equal(1, order.Claim(pages));
        Assert.Equal(6, pages[0]);
        Assert.Equal(0, order.Claim(pages));
    }

    [Fact]
    public void A_page_that_does_not_exist_is_refused()
    {
        var order = Of(Forward);
        Assert.Throws<ArgumentOutOfRangeException>(() => order.Faulted(20));
        Assert.Throws<ArgumentOutOfRangeException>(() => order.Faulted(-1));
    }

    [Fact]
    public void A_plan_makes_the_variant_that_it_names()
    {
        // One fault, at 100, then what comes next: enough to tell the five apart. Turns are of sixteen pages here, and the new pivot has two in a row.
        (PageOrder, string)[] rows =
        [
            (PageOrder.PushOnly, "1-49"),
            (PageOrder.Forward, "101-149"),
            (PageOrder.Dual, "84-99 101-133"),
            (PageOrder.ForwardMulti, "1-16 101-133"),
            (PageOrder.DualMulti, "1-1 84-99 101-132"),
        ];
        foreach (var (variant, expected) in rows)
        {
            foreach (string name in (string[])[$"{variant}", $"{variant}Lru"])
            {
                PageBitmap remaining = new(200);
                remaining.SetAll();
                var order = new PullPlan(Enum.Parse<PageOrder>(name)).Begin(remaining);
                long[] pages = new long[49];
                Assert.Equal(1, order.Claim(pages.AsSpan(0, 1)));
                remaining[100] = false;
                order.Faulted(100);
                int count = order.Claim(pages);
                Assert.Equal(expected, Runs(pages[..count]));
            }
        }
    }

    [Fact]
    public void Only_the_lru_variants_look_at_the_history_and_all_look_at_hot_pages()
    {
        WriteHistory history = new(20);
        history.Begin()[4] = true;
        history.Begin()[7] = true;
        foreach (PageOrder variant in Enum.GetValues<PageOrder>())
        {
            bool lru = variant.ToString().EndsWith("Lru", StringComparison.Ordinal);
            Assert.Equal(lru, new PullPlan(variant).UsesHistory);
            _remaining.SetAll();
            var order = new PullPlan(variant).Begin(_remaining, new PageBitmap(20), [BubbleOrderTests.Bitmap(20, [11])], history);
            long[] pages = new long[1];
            Assert.Equal(lru ? [11, 7, 4, 0] : [11L, 0, 1, 2], Enumerable.Range(0, 4).Select(_ => order.Claim(pages) == 1 ? pages[0] : -1));
        }
    }

    [Fact]
    public void A_history_remembers_the_last_generations_and_no_more()
    {
        WriteHistory history = new(10);
        Assert.Empty(history.NewestFirst());
        history.Latest()[9] = true;
        Assert.Equal(9, Assert.Single(history.NewestFirst()).NextSet(0));
        for (int scan = 0; scan < 6; scan++)
            history.Begin()[scan] = true;
        Assert.Equal([5, 4, 3, 2], history.NewestFirst().Select(map => map.NextSet(0)));
        Assert.All(history.NewestFirst(), map => Assert.Equal(1, map.CountSet()));
        history.Latest()[0] = true;
        Assert.Equal(2, history.NewestFirst()[0].CountSet());
    }

    private static string Runs(long[] pages)
    {
        PageBitmap map = BubbleOrderTests.Bitmap(pages[^1] + 1, pages.Select(page => (int)page));
        List<string> runs = [];
        for (long at = 0; map.TryNextRun(at, int.MaxValue, out PageRun run); at = run.End)
            runs.Add($"{run.First}-{run.End - 1}");
        return string.Join(' ', runs);
    }

    private BubbleOrder Of(BubbleShape shape) => new(_remaining, shape, [], null, turnPages: 1);

    /// <summary>Claims one page after another; <paramref name="script"/> says: after so many pages this one faults. A bar stands for the fault.</summary>
    private string Order(BubbleOrder order, params int[] script)
    {
        List<string> words = [];
        long[] page = new long[1];
        int at = 0;
        int sinceFault = 0;
        while (true)
        {
            if (at < script.Length && sinceFault == script[at])
            {
                Assert.True(_remaining.AtomicClear(script[at + 1]));
                order.Faulted(script[at + 1]);
                words.Add("|");
                at += 2;
                sinceFault = 0;
                continue;
            }

            if (order.Claim(page) == 0)
                return string.Join(' ', words);
            words.Add(page[0].ToString());
            sinceFault++;
        }
    }
}
