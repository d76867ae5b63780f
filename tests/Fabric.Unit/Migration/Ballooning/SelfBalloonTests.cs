using System.Text.Json;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.Ballooning;
using Xunit;

namespace Fabric.Unit.Migration.Ballooning;

/// <summary>
/// The decisions of the self-ballooning loop. Proven by tables for what a single look means, by a model of a guest for what comes of many, and by seeded random readings for what
/// no guest may bring about: a target outside its memory, or one below the floor.
/// </summary>
public sealed class SelfBalloonTests
{
    private const long Full = 1024 * ByteSize.Mebi;
    private const long Free = 700 * ByteSize.Mebi;
    private static readonly DateTimeOffset Zero = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private static readonly SelfBalloonSettings Settings = SelfBalloonSettings.Default;

    /// <summary>The guest of the model: reports once a second, follows with so many bytes a second.</summary>
    private static (SelfBalloonState State, TimeSpan Settled, List<long> Targets) Play(long free, long follows, Func<TimeSpan, long>? uses = null, Func<TimeSpan, bool>? speaks = null)
    {
        var state = SelfBalloonState.Begin(Full);
        var targets = new List<long>();
        long actual = Full;
        long reportedFree = free;
        var reportedAt = Zero;
        for (var now = TimeSpan.Zero; now < TimeSpan.FromSeconds(60); now += TimeSpan.FromMilliseconds(250))
        {
            actual = actual > state.Target ? Math.Max(state.Target, actual - (follows / 4)) : state.Target;
            if (now.Milliseconds == 0 && speaks?.Invoke(now) != false)
                (reportedFree, reportedAt) = (Math.Max(0, free - (uses?.Invoke(now) ?? 0) - (Full - actual)), Zero + now);
            var decision = SelfBalloon.Take(Settings, state, new GuestReading(actual, reportedAt, reportedFree, reportedFree, 0, 0), now);
            state = decision.Next;
            if (decision.Target is { } target)
                targets.Add(target);
            if (decision.Settled)
                return (state, now, targets);
        }

        throw new InvalidOperationException("It never settled.");
    }

    [Fact]
    public void A_quiet_guest_is_left_with_a_twentieth_of_what_was_free_after_three_reports()
    {
        var (state, settled, targets) = Play(Free, 500 * ByteSize.Mebi);
        Assert.InRange(state.Taken, (long)(Free * 0.95), Free - SelfBalloon.LeastReserve);
        Assert.InRange(targets.Count, 2, 4);
        Assert.InRange(settled, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(4));
        Assert.Equal(targets.OrderDescending(), targets);
    }

    /// <summary>
    /// What the guest reports is older than what the balloon has taken since. With the rule that news counts only of a balloon that stood, a slow guest ends where a fast one does;
    /// without it, the same free bytes would be taken twice.
    /// </summary>
    [Theory]
    [InlineData(20)]
    [InlineData(90)]
    [InlineData(170)]
    public void A_guest_that_follows_slowly_is_never_asked_for_more_than_it_had(int mebibytesASecond)
    {
        var (state, _, _) = Play(Free, mebibytesASecond * ByteSize.Mebi);
        Assert.InRange(state.Taken, (long)(Free * 0.95), Free - SelfBalloon.LeastReserve);
    }

    /// <summary>A report that comes a moment before a step may be taken is no less news when it may.</summary>
    [Fact]
    public void A_report_that_comes_too_early_is_not_forgotten()
    {
        var first = SelfBalloon.Take(Settings, SelfBalloonState.Begin(Full), new GuestReading(Full, Zero, Free, Free, 0, 0), TimeSpan.FromSeconds(0.2));
        long target = first.Target!.Value;
        var after = new GuestReading(target, Zero, Free, Free, 0, 0);
        var stands = SelfBalloon.Take(Settings, first.Next, after, TimeSpan.FromSeconds(0.9));
        long left = Free - (Full - target);
        var news = after with { ReportedAt = Zero + TimeSpan.FromSeconds(1), Free = left, Available = left };
        var early = SelfBalloon.Take(Settings, stands.Next, news, TimeSpan.FromSeconds(1.1));
        Assert.Null(early.Target);
        Assert.True(SelfBalloon.Take(Settings, early.Next, news, TimeSpan.FromSeconds(1.2)).Target < target);
    }

    [Fact]
    public void A_guest_that_takes_its_memory_in_the_middle_gets_everything_back()
    {
        var (state, settled, targets) = Play(Free, 500 * ByteSize.Mebi, now => now >= TimeSpan.FromSeconds(1) ? Free : 0);
        Assert.Equal(Full, targets[^1]);
        Assert.Equal(0, state.Taken);
        Assert.True(settled <= TimeSpan.FromSeconds(2), $"{settled}");
        Assert.True(state.NotBefore >= settled + TimeSpan.FromSeconds(10), $"{state.NotBefore}");
    }

    [Fact]
    public void A_guest_that_falls_silent_gets_everything_back()
    {
        var (state, _, targets) = Play(Free, 500 * ByteSize.Mebi, speaks: now => now == TimeSpan.Zero);
        Assert.Equal(2, targets.Count);
        Assert.Equal(Full, targets[^1]);
        Assert.Equal(0, state.Taken);
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(5 * ByteSize.Mebi)]
    public void A_guest_with_hardly_anything_free_is_left_alone(long free) => Assert.Empty(Play(free, ByteSize.Gibi).Targets);

    [Fact]
    public void A_guest_that_gives_nothing_is_not_waited_for()
    {
        var (state, settled, _) = Play(Free, 0);
        Assert.Equal(Full, state.Target);
        Assert.True(settled <= TimeSpan.FromSeconds(2), $"{settled}");
    }

    public static TheoryData<string, GuestReading, bool> Readings()
    {
        var calm = new GuestReading(Full / 2, Zero + TimeSpan.FromSeconds(2), 100 * ByteSize.Mebi, 100 * ByteSize.Mebi, 50, 1000);
        return new TheoryData<string, GuestReading, bool>
        {
            { "calm", calm, false },
            { "scarce", calm with { Available = 9 * ByteSize.Mebi }, true },
            { "scarce, by what is free alone", calm with { Free = ByteSize.Mebi, Available = null }, true },
            { "scarce, but old news", calm with { Available = 9 * ByteSize.Mebi, ReportedAt = Zero + TimeSpan.FromSeconds(1) }, false },
            { "few major faults", calm with { MajorFaults = 149 }, false },
            { "many major faults", calm with { MajorFaults = 151 }, true },
            { "a counter that went back", calm with { MajorFaults = 0, SwappedBytes = 0 }, false },
            { "a counter below zero", calm with { MajorFaults = long.MinValue, SwappedBytes = long.MinValue }, false },
            { "swaps", calm with { SwappedBytes = 1001 }, true },
            { "says nothing of swap", calm with { SwappedBytes = null, MajorFaults = null }, false },
            { "took pages back itself", calm with { Actual = (Full / 2) + (2 * ByteSize.Mebi) }, true },
            { "took pages back itself, by old news too", calm with { Actual = (Full / 2) + (2 * ByteSize.Mebi), ReportedAt = Zero + TimeSpan.FromSeconds(1) }, true },
        };
    }

    [Theory]
    [MemberData(nameof(Readings))]
    public void Pressure_gives_everything_back_at_once_whatever_else_is_done(string what, GuestReading reading, bool pressure)
    {
        var before = new GuestReading(Full / 2, Zero + TimeSpan.FromSeconds(1), 100 * ByteSize.Mebi, 100 * ByteSize.Mebi, 50, 1000);
        var state = new SelfBalloonState(Full, Full / 2, before, (TimeSpan.FromSeconds(1), before), TimeSpan.Zero, ByteSize.Gibi, Full / 2, TimeSpan.Zero);
        foreach (var decide in new[] { SelfBalloon.Take, SelfBalloon.Watch })
        {
            var decision = decide(Settings, state, reading, TimeSpan.FromSeconds(2));
            Assert.True(decision.Pressure == pressure, $"{what}: {decision.Reason}");
            if (pressure)
                Assert.Equal((Full, true, TimeSpan.FromSeconds(12)), (decision.Target, decision.Settled, decision.Next.NotBefore));
            else
                Assert.True(decision.Target is null || decision.Target < Full / 2, $"{what}: {decision.Target}");
        }
    }

    [Fact]
    public void After_pressure_nothing_is_taken_for_ten_intervals()
    {
        var state = SelfBalloonState.Begin(Full) with { NotBefore = TimeSpan.FromSeconds(12) };
        var reading = new GuestReading(Full, Zero, Free, Free, 0, 0);
        Assert.Null(SelfBalloon.Take(Settings, state, reading, TimeSpan.FromSeconds(11.9)).Target);
        Assert.NotNull(SelfBalloon.Take(Settings, state, reading, TimeSpan.FromSeconds(12)).Target);
    }

    [Fact]
    public void While_memory_is_moved_nothing_more_is_taken()
    {
        var reading = new GuestReading(Full, Zero, Free, Free, 0, 0);
        Assert.Null(SelfBalloon.Watch(Settings, SelfBalloonState.Begin(Full), reading, TimeSpan.Zero).Target);
        var behind = SelfBalloonState.Begin(Full) with { Target = Full / 2, Least = Full };
        Assert.Equal(Full, SelfBalloon.Watch(Settings, behind, reading, TimeSpan.Zero).Target);
    }

    [Fact]
    public void No_reading_makes_a_target_outside_what_is_allowed()
    {
        long[] odd = [0, 1, -1, long.MinValue, long.MaxValue, Full, Full - 1, Full * 1000, 4096];
        for (int seed = 1; seed <= 300; seed++)
        {
            var random = new Random(seed);
            long full = (1 + random.NextInt64(1 << random.Next(1, 22))) * ByteSize.Mebi;
            long floor = Math.Min(full, Math.Max(SelfBalloon.FloorBytes, full / SelfBalloon.FloorShare));
            var state = random.Next(2) == 0 ? SelfBalloonState.Begin(full) : SelfBalloonState.Find(full);
            for (int i = 0; i < 100; i++)
            {
                var reading = new GuestReading(
                    Any(random, full, odd), random.Next(4) == 0 ? null : Zero + TimeSpan.FromSeconds(random.Next(50)), AnyOrNull(random, full, odd), AnyOrNull(random, full, odd),
                    AnyOrNull(random, full, odd), AnyOrNull(random, full, odd));
                var now = TimeSpan.FromMilliseconds(i * random.Next(2000));
                var decision = random.Next(5) switch
                {
                    0 => SelfBalloon.Watch(Settings, state, reading, now),
                    1 => SelfBalloon.Keep(Settings, state, reading, random.Next(4) > 0, now),
                    _ => SelfBalloon.Take(Settings, state, reading, now),
                };
                state = decision.Next;
                Assert.InRange(state.Target, 0, full);

                // Only what the guest says that it has already given may lie below the floor: nobody asked it to.
                if (decision.Target is { } target)
                    Assert.True(target >= floor || target == Math.Clamp(reading.Actual, 0, full), $"seed {seed}: {target} of {full} after {reading}");
            }
        }
    }

    [Fact]
    public void A_record_that_does_not_speak_of_the_balloon_leaves_it_alone()
    {
        var old = JsonSerializer.Deserialize<MigrationOptions>("""{"Mode":"post-copy","MaxDowntimeMs":300,"Verify":"frames","BulkConnections":2}""")!;
        Assert.Equal(BalloonUse.Off, old.Balloon);
        Assert.Equal(["off", "auto"], Enum.GetValues<BalloonUse>().Select(use => JsonSerializer.Serialize(use).Trim('"')));
    }

    private static long Any(Random random, long full, long[] odd) => random.Next(3) == 0 ? odd[random.Next(odd.Length)] : random.NextInt64(full + 1);

    private static long? AnyOrNull(Random random, long full, long[] odd) => random.Next(6) == 0 ? null : Any(random, full, odd);
}
