using Fabric.Core;
using Fabric.Migration.Ballooning;
using Xunit;

namespace Fabric.Unit.Migration.Ballooning;

/// <summary>
/// The decisions of a VM's own loop over hours. Proven by a model of a guest that reports once a second and follows an order over some time, while what it uses changes; and by what the first
/// looks make of a balloon that somebody else has filled.
/// </summary>
public sealed class SteadyBalloonTests
{
    private const long Full = 1024 * ByteSize.Mebi;
    private const long Free = 700 * ByteSize.Mebi;
    private static readonly DateTimeOffset Zero = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private static readonly SelfBalloonSettings Settings = SelfBalloonSettings.Of(new BalloonSpec());

    private SelfBalloonState _state = SelfBalloonState.Find(Full);
    private long _actual = Full;
    private long _device = Full;
    private TimeSpan _now;
    private bool _promised = true;
    private readonly List<(TimeSpan At, SelfBalloonDecision Decision)> _orders = [];

    [Fact]
    public void What_is_free_is_taken_within_some_intervals_and_then_nothing_is_asked()
    {
        Play(TimeSpan.FromMinutes(1), Free);
        Assert.InRange(_state.Taken, (long)(Free * 0.93), Free - SelfBalloon.LeastReserve);
        int orders = _orders.Count;
        Assert.InRange(orders, 2, 4);
        Play(TimeSpan.FromHours(1), Free);
        Assert.Equal(orders, _orders.Count);
    }

    [Fact]
    public void What_becomes_free_later_is_taken_then()
    {
        Play(TimeSpan.FromMinutes(1), Free / 4);
        Assert.InRange(_state.Taken, (long)(Free / 4 * 0.9), Free / 4);
        Play(TimeSpan.FromMinutes(3), Free);
        Assert.InRange(_state.Taken, (long)(Free * 0.93), Free - SelfBalloon.LeastReserve);
    }

    [Fact]
    public void A_guest_that_needs_its_memory_has_it_within_an_interval_and_keeps_it_for_ten()
    {
        Play(TimeSpan.FromMinutes(1), Free);
        var needed = _now;
        Play(Settings.Interval, Full - _actual);
        Assert.Equal((Full, true), (_orders[^1].Decision.Target, _orders[^1].Decision.Pressure));
        Play(TimeSpan.FromMinutes(2), Free);
        var again = _orders.First(o => o.At > needed && o.Decision.Target < Full).At;
        Assert.InRange(again - needed, 10 * Settings.Interval, 12 * Settings.Interval);
    }

    /// <summary>As a build does: filled to the reserve at a low, it would be under pressure at the next high, and pay for filling and emptying every minute.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_guest_whose_needs_go_up_and_down_is_left_what_it_needs(int seed)
    {
        const long High = 120 * ByteSize.Mebi;
        var random = new Random(seed);
        for (var end = TimeSpan.FromHours(1); _now < end;)
            Play(Settings.Interval, Free - random.NextInt64(High));
        Assert.InRange(_orders.Count(static o => o.Decision.Pressure), 0, 4); // without a memory it is one a minute
        Assert.InRange(_state.Taken, (Free - High) * 9 / 10, Free - (High * 9 / 10));
    }

    /// <summary>At boot for one, or a job that runs once a day.</summary>
    [Fact]
    public void A_need_that_does_not_come_again_is_forgotten_within_some_looks()
    {
        Play(TimeSpan.FromMinutes(1), Free / 4);
        Play(20 * Settings.Interval, Free);
        Assert.InRange(_state.Taken, (long)(Free * 0.85), Free - SelfBalloon.LeastReserve);
        Play(20 * Settings.Interval, Free);
        Assert.InRange(_state.Taken, (long)(Free * 0.93), Free - SelfBalloon.LeastReserve);
    }

    [Fact]
    public void Ahead_of_a_migration_nothing_is_left_for_a_peak()
    {
        var state = SelfBalloonState.Begin(Full);
        for (int second = 1; second <= 10; second++)
        {
            long left = second == 1 ? 0 : Free - (Full - _actual);
            state = SelfBalloon.Take(SelfBalloonSettings.Default, state, new GuestReading(_actual, Zero + TimeSpan.FromSeconds(second), left, left, 0, 0), TimeSpan.FromSeconds(second)).Next;
            _actual = state.Target;
        }

        Assert.Equal(0, state.Peak);
        Assert.InRange(state.Taken, (long)(Free * 0.93), Free - SelfBalloon.LeastReserve);
    }

    /// <summary>The order that the device was given before is not known here: an agent that starts, or the destination of a move.</summary>
    [Theory]
    [InlineData(400, 400)] // it stands
    [InlineData(600, 400)] // it gives
    [InlineData(1024, 400)] // it has not begun to
    public void A_balloon_that_is_found_is_kept(int has, int asked)
    {
        (_actual, _device) = (has * ByteSize.Mebi, asked * ByteSize.Mebi);
        Play(TimeSpan.FromMinutes(1), Free);
        Assert.DoesNotContain(_orders, o => o.Decision.Pressure);
        Assert.InRange(_state.Taken, (long)(Free * 0.93), Free - SelfBalloon.LeastReserve);
        Assert.Equal(_state.Target, _device);
    }

    [Fact]
    public void A_guest_that_is_found_on_its_way_back_goes_on()
    {
        (_actual, _device) = (300 * ByteSize.Mebi, Full);
        Play(TimeSpan.FromSeconds(30), Free);
        Assert.Equal((Full, 1), (_device, _orders.Count));
        Assert.Equal(Full, _actual);
    }

    [Fact]
    public void What_is_found_is_given_back_when_it_is_needed_though_this_loop_took_nothing()
    {
        _actual = _device = Full - Free;
        Play(TimeSpan.FromSeconds(15), Free);
        Assert.Equal(Full, Assert.Single(_orders).Decision.Target);
    }

    [Fact]
    public void A_guest_that_no_longer_promises_gets_everything_back_and_gives_nothing()
    {
        Play(TimeSpan.FromMinutes(1), Free);
        _promised = false;
        Play(TimeSpan.FromMinutes(5), Free);
        Assert.Equal(Full, _device);
        int orders = _orders.Count;
        Play(TimeSpan.FromMinutes(5), Free);
        Assert.Equal(orders, _orders.Count);
    }

    [Fact]
    public void Looks_are_spread_over_an_interval_and_drift_apart()
    {
        Assert.Equal((TimeSpan.Zero, Settings.Interval / 2), (Settings.First(0), Settings.First(0.5)));
        Assert.Equal((TimeSpan.FromSeconds(4.5), TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(5.5)), (Settings.Again(0), Settings.Again(0.5), Settings.Again(1)));
    }

    [Fact]
    public void The_seconds_ahead_of_a_migration_are_the_same_for_a_vm_with_a_loop_but_for_its_hold_off()
    {
        Assert.Equal(SelfBalloonSettings.Default, SelfBalloonSettings.Default.Ahead());
        Assert.Equal((TimeSpan.FromSeconds(1), 50), (Settings.Ahead().Interval, Settings.Ahead().HoldOffIntervals));
    }

    /// <param name="time">How long.</param>
    /// <param name="free">What would be free all the while without a balloon.</param>
    private void Play(TimeSpan time, long free)
    {
        const long Follows = 50 * ByteSize.Mebi;
        for (var end = _now + time; _now < end;)
        {
            _now += TimeSpan.FromSeconds(1);
            _actual = _actual > _device ? Math.Max(_device, _actual - Follows) : Math.Min(_device, _actual + Follows);
            if (_now.Ticks % Settings.Interval.Ticks != 0)
                continue;
            long left = Math.Max(0, free - (Full - _actual));
            var decision = SelfBalloon.Keep(Settings, _state, new GuestReading(_actual, Zero + _now, left, left, 0, 0), _promised, _now);
            _state = decision.Next;
            if (decision.Target is not { } target)
                continue;
            _device = target;
            _orders.Add((_now, decision));
        }
    }
}
