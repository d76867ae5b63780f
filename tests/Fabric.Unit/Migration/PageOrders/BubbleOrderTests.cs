using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Xunit;

namespace Fabric.Unit.Migration.PageOrders;

/// <summary>
/// Random maps, faults, claims by others and recency, from seeds that a failure names. Each claim of each variant is compared with the slow reference, page by page (chunks
/// of one) and in chunks; and whatever the reference says, every page must come exactly once.
/// </summary>
public sealed class BubbleOrderTests
{
    private const int Seeds = 120;

    public static TheoryData<int, bool, bool> Shapes => new()
    {
        { 0, false, false }, { 1, false, false }, { 1, true, false },
        { 1, true, true }, { 3, false, true }, { 7, false, true }, { 2, true, true }, { 7, true, true }, { 64, true, true },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Every_step_is_the_reference_order_s(int pivots, bool dual, bool stops)
    {
        for (int seed = 0; seed < Seeds; seed++)
        {
            var run = new Run(new BubbleShape(pivots, dual, stops), seed);
            while (run.Step())
            {
            }

            run.CheckAllCameOnce();
        }
    }

    [Fact]
    public void Pages_that_others_take_at_the_same_time_are_never_taken_twice()
    {
        // Both go upward through the same words: whoever is behind leaps to where the other is.
        const int Length = 200_000;
        foreach (PageOrder variant in Enum.GetValues<PageOrder>())
        {
            PageBitmap remaining = new(Length);
            remaining.SetAll();
            IPageOrder order = new PullPlan(variant).Begin(remaining);
            order.Faulted(0);
            long urgent = 0;
            using var go = new Barrier(2);
            var other = new Thread(() =>
            {
                go.SignalAndWait();
                for (long page = 0; page < Length; page++)
                    urgent += remaining.AtomicClear(page) ? 1 : 0;
            });
            other.Start();
            go.SignalAndWait();
            long pushed = 0;
            long[] pages = new long[64];
            for (int count; (count = order.Claim(pages)) > 0;)
                pushed += count;
            other.Join();
            Assert.True(pushed + urgent == Length, $"{variant}: {pushed} + {urgent} of {Length}");
        }
    }

    private sealed class Run
    {
        private readonly int _seed;
        private readonly Random _random;
        private readonly PageBitmap _remaining;
        private readonly BubbleOrder _order;
        private readonly ReferenceOrder _reference;
        private readonly bool[] _lacking;
        private readonly int[] _came;
        private readonly int _chunk;
        private int _steps;

        public Run(BubbleShape shape, int seed)
        {
            (_seed, _random) = (seed, new Random(seed));
            int length = _random.Next(1, 700);
            _came = new int[length];
            _lacking = [.. Lacking(length)];
            _remaining = Bitmap(length, Enumerable.Range(0, length).Where(p => _lacking[p]));
            List<List<int>> recent = [.. Enumerable.Range(0, _random.Next(2) * _random.Next(4)).Select(_ => Some(length, _random.Next(1, 8)))];
            int turn = _random.Next(3) == 0 ? 1 : _random.Next(1, 40);
            _chunk = _random.Next(2) == 0 ? 1 : _random.Next(1, 100);
            _order = new BubbleOrder(_remaining, shape, [.. recent.Select(map => Bitmap(length, map))], null, turn);
            _reference = new ReferenceOrder(_lacking, shape, recent, turn);
        }

        /// <summary>Perhaps a fault, perhaps pages that somebody else claims, then a claim. False: nothing is left.</summary>
        public bool Step()
        {
            _steps++;
            int page = _random.Next(_came.Length);
            switch (_random.Next(10))
            {
                case 0 or 1 or 2 when Take(page):
                    _order.Faulted(page);
                    _reference.Faulted(page);
                    break;
                case 3:
                    for (int around = page; around < Math.Min(page + 8, _came.Length); around++)
                        Take(around);
                    break;
            }

            long[] pages = new long[_chunk];
            long[] claimed = pages[.._order.Claim(pages)];
            List<long> expected = _reference.Claim(_chunk);
            Assert.True(expected.SequenceEqual(claimed), $"seed {_seed}, step {_steps}: {string.Join(' ', expected)} expected, {string.Join(' ', claimed)} claimed");
            foreach (long one in claimed)
                _came[one]++;
            return claimed.Length > 0;
        }

        public void CheckAllCameOnce()
        {
            for (int page = 0; page < _came.Length; page++)
                Assert.True(_came[page] == (_lacking[page] ? 1 : 0), $"seed {_seed}: page {page} came {_came[page]} times");
        }

        private bool Take(int page)
        {
            bool was = _remaining.AtomicClear(page);
            Assert.Equal(was, _reference.IsLacking(page));
            if (was)
            {
                _reference.Sent(page);
                _came[page]++;
            }

            return was;
        }

        // Dense, sparse, or in stretches with holes of several words.
        private IEnumerable<bool> Lacking(int length)
        {
            int kind = _random.Next(3);
            bool on = true;
            for (int page = 0; page < length; page++)
            {
                if (_random.Next(kind == 2 ? 150 : 1 + (kind * 3)) == 0)
                    on = kind == 0 ? _random.Next(40) != 0 : !on;
                yield return on;
            }
        }

        private List<int> Some(int length, int part) => [.. Enumerable.Range(0, length).Where(_ => _random.Next(part) == 0)];
    }

    internal static PageBitmap Bitmap(long length, IEnumerable<int> pages)
    {
        PageBitmap map = new(length);
        foreach (int page in pages)
            map[page] = true;
        return map;
    }
}
