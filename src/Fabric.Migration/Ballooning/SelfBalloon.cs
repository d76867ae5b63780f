// Dynamic self-ballooning, after Hines, Deshpande and Gopalan (VEE'09): what of the guest's free memory the balloon takes, so that it need not be moved.
//
//                        ┌──────────── all but the reserve and a fifth of the rest is asked for ───────────┐
//                        ▼                                                                                 │
//      news of a balloon that stands ──▶ above the reserve? ──yes───────────────────────────────────────────┘
//                        │                    └─no──▶ settled: nothing more is to be gained
//                        └──▶ pressure ──▶ everything back at once, and nothing is taken for ten intervals
//
// The guest's statistics are up to a second old, and one that is running may need in the next moment what it said was free. Three things keep it from harm:
//   news     a report counts only if it was first seen after a look at which the balloon already stood. What it took since would be counted as free otherwise.
//   share    one step takes a share of what lies above the reserve, never all.
//   pressure scarcity, major faults, swapping, silence, or a guest that takes pages back by itself: then it gets everything, at once.
// A guest whose needs go up and down, a build for one, would be filled to the reserve at a low, be under pressure at the next high, and pay for each turn. So the steady loop remembers the most that the
// guest was seen to use (Peak) and leaves the reserve above that. It forgets by a share of the difference at each look, a quarter at first; each time the guest comes back to it makes that half of what it
// was (Returns). A need that comes once, as at boot, is forgotten within some twenty to forty looks.
// The same decisions serve two callers: the seconds ahead of a migration (Take, then Watch), and the steady loop of a VM that asks for one (Keep at each interval, Watch while it is moved).
// That loop does not begin with an empty balloon: an agent that starts, and a host to which the VM comes, find it as the loop before left it, standing or on its way.
//
// None of them is a promise to a guest that takes all of its memory within a millisecond. That one is kept by the device (deflate-on-oom): its driver takes pages out of the
// balloon before the kernel kills. So a machine whose guest has not agreed to that is never ballooned (Fabric.Host/Balloon).
//
// Everything that the guest says is hostile: numbers are clamped to what the machine has, counters that go back begin anew, and no number can make a target below the
// floor or above the guest's whole memory.
using System.Globalization;
using Fabric.Core;

namespace Fabric.Migration.Ballooning;

/// <summary>How memory is taken. The defaults are those for the seconds ahead of a migration.</summary>
public sealed record SelfBalloonSettings
{
    /// <summary>Of a steady loop, at most this much of an interval is it early or late, so that many of them do not look together.</summary>
    public const double Jitter = 0.1;

    private static readonly TimeSpan LeastSilence = TimeSpan.FromSeconds(5);

    public static SelfBalloonSettings Default { get; } = new();

    /// <summary>Between two inflations at least; more than zero. A guest reports once a second at most.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Of what would be free without a balloon: left to the guest. With what the last step leaves it is the twentieth of the paper.</summary>
    public double ReserveShare { get; init; } = 0.04;

    /// <summary>Of what lies above the reserve: taken in one step, above 0, at most 1.</summary>
    public double StepShare { get; init; } = 0.8;

    /// <summary>Of what would be free without a balloon: a step that gains less is not worth it.</summary>
    public double GainShare { get; init; } = 0.02;

    /// <summary>Intervals after pressure in which nothing is taken.</summary>
    public int HoldOffIntervals { get; init; } = 10;

    /// <summary>Major faults a second from which on the guest is under pressure.</summary>
    public double MajorFaultsPerSecond { get; init; } = 100;

    /// <summary>A guest of which memory is held and that reports nothing new for so long is given it back.</summary>
    public TimeSpan SilenceLimit { get; init; } = LeastSilence;

    /// <summary>Of a VM's own loop, by its interval; the same of a VM that has none.</summary>
    public static SelfBalloonSettings Of(BalloonSpec? spec) => spec is null ? Default : Default with
    {
        Interval = spec.Interval(),
        // Two looks without news may be a report that came late.
        SilenceLimit = spec.Interval() * 2.5 > LeastSilence ? spec.Interval() * 2.5 : LeastSilence,
    };

    /// <summary>For the seconds ahead of a migration: as quick as a guest reports, and as long without taking anything after pressure.</summary>
    public SelfBalloonSettings Ahead() => this with { Interval = Default.Interval, HoldOffIntervals = (int)Math.Ceiling(HoldOff / Default.Interval) };

    /// <summary>When a steady loop looks first: anywhere within an interval. <paramref name="chance"/>: at least 0, below 1.</summary>
    public TimeSpan First(double chance) => Interval * chance;

    /// <summary>When it looks again.</summary>
    public TimeSpan Again(double chance) => Interval * (1 - Jitter + (2 * Jitter * chance));

    internal TimeSpan HoldOff => HoldOffIntervals * Interval;
}

/// <summary>One look at a guest: bytes, and counters since its boot; null where it does not say. <paramref name="ReportedAt"/>: the guest's own report, by the host's clock.</summary>
/// <param name="Actual">What the balloon leaves to the guest now: not as old as the rest.</param>
public sealed record GuestReading(long Actual, DateTimeOffset? ReportedAt, long? Free, long? Available, long? MajorFaults, long? SwappedBytes);

/// <summary>What the loop remembers between two looks. Times count from any fixed moment.</summary>
/// <param name="Full">Bytes that the guest has without a balloon.</param>
/// <param name="Target">Bytes that were asked for last.</param>
/// <param name="Last">The look before, null ahead of the first.</param>
/// <param name="News">The last report that was new, and when that was seen.</param>
/// <param name="Stands">When the balloon was first seen at its target; null while it is on its way.</param>
/// <param name="Above">Bytes above the reserve that the last step left.</param>
/// <param name="Least">The least that the guest had since the last step.</param>
/// <param name="NotBefore">Nothing is taken before.</param>
/// <param name="AsFound">Nothing was asked for yet: the target is what the guest has been seen to have, since what it was asked for before is not known.</param>
/// <param name="Peak">Bytes that a steady loop has seen the guest use, as far as it has not forgotten them; 0 ahead of a migration.</param>
/// <param name="Returns">How often the guest came back to it, up to <see cref="SelfBalloon.ReturnsMost"/>.</param>
/// <param name="Fell">It has used less since.</param>
public sealed record SelfBalloonState(
    long Full, long Target, GuestReading? Last, (TimeSpan Seen, GuestReading Report)? News, TimeSpan? Stands, long Above, long Least, TimeSpan NotBefore, bool AsFound = false,
    long Peak = 0, int Returns = 0, bool Fell = false)
{
    /// <summary>Of a balloon that is empty and was not asked to be otherwise.</summary>
    public static SelfBalloonState Begin(long full) => new(full, full, null, null, null, long.MaxValue, full, TimeSpan.MinValue);

    /// <summary>Of a balloon that another loop may have filled, and may have just given an order.</summary>
    public static SelfBalloonState Find(long full) => Begin(full) with { AsFound = true };

    /// <summary>Bytes that the balloon was asked to hold.</summary>
    public long Taken => Full - Target;
}

/// <param name="Target">The bytes that the guest is to be left with from now on; null: as it is.</param>
/// <param name="Settled">Waiting longer would gain nothing.</param>
/// <param name="Pressure">The guest needs its memory.</param>
/// <param name="Reason">For people.</param>
public sealed record SelfBalloonDecision(SelfBalloonState Next, long? Target, bool Settled, bool Pressure, string Reason);

/// <summary>The decisions. Pure functions.</summary>
public static class SelfBalloon
{
    /// <summary>Why a guest is not ballooned whose driver has not agreed to deflate-on-oom.</summary>
    public const string NoPromise = "its guest does not promise to empty the balloon before it runs out of memory";

    /// <summary>Bytes by which a balloon may be off its target and still stand.</summary>
    public const long Slack = ByteSize.Mebi;

    /// <summary>Bytes that are left free in any case, and of the whole memory at least 1/<see cref="LeastShare"/>.</summary>
    public const long LeastReserve = 4 * ByteSize.Mebi;
    public const long LeastShare = 100;

    /// <summary>No guest is left with less than so many bytes, nor with less than 1/<see cref="FloorShare"/> of its memory.</summary>
    public const long FloorBytes = 64 * ByteSize.Mebi;
    public const long FloorShare = 16;

    /// <summary>What a steady loop forgets of a peak at a look: 1/2^<see cref="ForgetShift"/> of what it lies above what is used, half of that for each return.</summary>
    public const int ForgetShift = 2;
    public const int ReturnsMost = 5;

    /// <summary>Ahead of a migration: takes what is free, gives back under pressure.</summary>
    public static SelfBalloonDecision Take(SelfBalloonSettings settings, SelfBalloonState state, GuestReading reading, TimeSpan now)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(state);
        state = Adopt(state, reading);
        return TakeOrGiveBack(settings, state, Look.At(state, reading, now));
    }

    private static SelfBalloonDecision TakeOrGiveBack(SelfBalloonSettings settings, SelfBalloonState state, Look look)
    {
        if (WhyBack(settings, state, look) is { } pressure)
            return GiveBack(settings, look, pressure);
        if (look.Free is not { } free)
            return Stay(look, true, "the guest reports no free memory");
        if (look.Reading.Actual > state.Target + Slack)
            return Behind(state, look);
        if (state.Above < look.Gain(settings))
            return Stay(look, true, "what is free is the reserve");
        if (look.Now < state.NotBefore)
            return Stay(look, state.Taken == 0, "it was under pressure, or has just been asked");
        if (!look.IsNewsOfStanding)
            return Stay(look, false, "there is no news since the balloon stands");
        return Step(settings, state, look, free);
    }

    /// <summary>
    /// A look of a VM's own loop: as <see cref="Take"/>, whatever the looks before came to, and only while the guest's driver promises (<paramref name="promised"/>) to empty the balloon before
    /// its kernel would kill: a guest that boots another system promises anew, or does not.
    /// </summary>
    public static SelfBalloonDecision Keep(SelfBalloonSettings settings, SelfBalloonState state, GuestReading reading, bool promised, TimeSpan now)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(state);
        state = Adopt(state with { Above = long.MaxValue }, reading);
        var look = Look.At(state, reading, now);
        if (!promised)
            return look.Next.Taken == 0 ? Stay(look, true, NoPromise) : GiveBack(settings, look, NoPromise);
        var decision = TakeOrGiveBack(settings, state, look with { Next = Remember(look) });
        // The next look is an interval away by itself: only pressure makes the loop wait for more than that.
        return decision.Pressure ? decision : decision with { Next = decision.Next with { NotBefore = state.NotBefore } };
    }

    /// <summary>While the memory is being moved: nothing more is taken, and everything is given back under pressure.</summary>
    public static SelfBalloonDecision Watch(SelfBalloonSettings settings, SelfBalloonState state, GuestReading reading, TimeSpan now)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(state);
        state = Adopt(state, reading);
        var look = Look.At(state, reading, now);
        if (WhyBack(settings, state, look) is { } pressure)
            return GiveBack(settings, look, pressure);
        // What the guest has not given by now it may keep: pages that are given while they are read are sent all the same.
        return look.Reading.Actual > state.Target + Slack
            ? new SelfBalloonDecision(look.Next with { Target = look.Reading.Actual, Least = look.Reading.Actual, AsFound = false }, look.Reading.Actual, true, false, "enough has been taken")
            : Stay(look, true, "nothing more is taken");
    }

    /// <summary>A balloon whose order is not known is taken to have been asked for the least that was seen: the guest may be on its way there, and is on its way back once it has more.</summary>
    private static SelfBalloonState Adopt(SelfBalloonState state, GuestReading reading)
    {
        ArgumentNullException.ThrowIfNull(reading);
        long actual = Math.Clamp(reading.Actual, 0, state.Full);
        return state.AsFound && actual < state.Target
            ? state with { Target = actual, Least = actual, Stands = state.Target - actual > Slack ? null : state.Stands }
            : state;
    }

    /// <summary>A guest that is at its peak look after look has no ups and downs: then it counts as one that does not return.</summary>
    private static SelfBalloonState Remember(Look look)
    {
        var state = look.Next;
        if (!look.Fresh || !look.IsNewsOfStanding || look.Used is not { } used)
            return state;
        long above = state.Peak - used;
        if (above > Slack)
            return state with { Peak = state.Peak - (above >> (ForgetShift + state.Returns)), Fell = true };
        return state with { Peak = Math.Max(state.Peak, used), Returns = Math.Clamp(state.Returns + (state.Fell ? 1 : -1), 0, ReturnsMost), Fell = false };
    }

    private static SelfBalloonDecision Step(SelfBalloonSettings settings, SelfBalloonState state, Look look, long free)
    {
        long reserve = look.Reserve(settings) + Math.Max(0, look.Next.Peak - (look.Reading.Actual - free));
        long above = free - reserve;
        if (above < look.Gain(settings))
            return Stay(look, true, "what is free is the reserve");
        long floor = Math.Min(state.Full, Math.Max(FloorBytes, state.Full / FloorShare));
        long target = Math.Max(floor, state.Target - (long)(above * settings.StepShare)) / ByteSize.Mebi * ByteSize.Mebi;
        if (target < floor || state.Target - target < Slack)
            return Stay(look, true, "the guest is not made smaller than that");
        var next = look.Next with { Target = target, Stands = null, Above = above - (state.Target - target), Least = look.Reading.Actual, NotBefore = look.Now + settings.Interval, AsFound = false };
        return new SelfBalloonDecision(next, target, false, false, Text($"{ByteSize.Format(free)} are free, {ByteSize.Format(reserve)} are left"));
    }

    /// <summary>A driver that is not there, or that has given all that it can, is not waited for: one from which nothing came between two reports.</summary>
    private static SelfBalloonDecision Behind(SelfBalloonState state, Look look)
    {
        if (!look.Fresh || state.News is not { } before || look.Reading.Actual < before.Report.Actual - Slack)
            return Stay(look, false, "the guest is still giving");
        return new SelfBalloonDecision(
            look.Next with { Target = look.Reading.Actual, Least = look.Reading.Actual, AsFound = false }, look.Reading.Actual, true, false, "the guest gives no more");
    }

    private static SelfBalloonDecision GiveBack(SelfBalloonSettings settings, Look look, string why)
    {
        long full = look.Next.Full;
        var next = look.Next with { Target = full, Stands = null, Above = long.MaxValue, Least = full, NotBefore = look.Now + settings.HoldOff, AsFound = false };
        return new SelfBalloonDecision(next, full, true, true, why);
    }

    private static SelfBalloonDecision Stay(Look look, bool settled, string why) => new(look.Next, null, settled, false, why);

    /// <summary>Why the guest needs its memory now, or null. One of which nothing is held is not helped by anything here.</summary>
    private static string? WhyBack(SelfBalloonSettings settings, SelfBalloonState state, Look look)
    {
        if (state.Taken == 0)
            return null;
        if (look.Reading.Actual > state.Least + Slack)
            return "the guest took memory back by itself";
        if (look.Silent > settings.SilenceLimit)
            return Text($"the guest has reported nothing for {look.Silent.TotalSeconds:0.0} s");
        if (!look.Fresh)
            return null;
        if (look.Available is { } available && available < look.Reserve(settings) / 2)
            return Text($"only {ByteSize.Format(available)} are available");
        if (state.News is not { } before)
            return null;
        double seconds = Math.Max(0.1, (look.Now - before.Seen).TotalSeconds);
        if (Grown(look.Reading.MajorFaults, before.Report.MajorFaults) / seconds > settings.MajorFaultsPerSecond)
            return "it waits for pages from its disk";
        return Grown(look.Reading.SwappedBytes, before.Report.SwappedBytes) > 0 ? "it swaps" : null;
    }

    /// <summary>A counter that is lower than it was belongs to a guest that booted anew.</summary>
    private static long Grown(long? now, long? before) => now is { } n && before is { } b && n > b && b >= 0 ? n - b : 0;

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>A reading within what can be, with what it means after the one before it.</summary>
    private sealed record Look(GuestReading Reading, SelfBalloonState Next, TimeSpan Now, bool Fresh, TimeSpan Silent)
    {
        /// <summary>What the guest can use without taking anything from anybody: what is free, less what its kernel keeps for itself.</summary>
        internal long? Free => Reading is { Free: { } free } ? Math.Min(free, Reading.Available ?? free) : null;

        internal long? Available => Reading.Available ?? Reading.Free;

        /// <summary>What it uses; right only where <see cref="IsNewsOfStanding"/>.</summary>
        internal long? Used => Reading.Actual - Free;

        /// <summary>The last report was first seen after a look at which the balloon already stood.</summary>
        internal bool IsNewsOfStanding => Next is { Stands: { } stands, News: { } news } && news.Seen > stands;

        /// <summary>What would be free without a balloon.</summary>
        private long WouldBeFree => (Free ?? 0) + (Next.Full - Reading.Actual);

        internal static Look At(SelfBalloonState state, GuestReading reading, TimeSpan now)
        {
            ArgumentNullException.ThrowIfNull(reading);
            long full = state.Full;
            var clean = reading with
            {
                Actual = Math.Clamp(reading.Actual, 0, full),
                Free = Clamp(reading.Free, full),
                Available = Clamp(reading.Available, full),
            };
            bool fresh = clean.ReportedAt is not null && clean.ReportedAt != state.News?.Report.ReportedAt;
            var news = fresh ? (now, clean) : state.News ?? (now, clean);
            // A balloon that nobody has moved yet has stood for ever.
            TimeSpan? stands = Math.Abs(clean.Actual - state.Target) > Slack ? null : state.Last is null && !state.AsFound ? TimeSpan.MinValue : state.Stands ?? now;
            var next = state with { Last = clean, News = news, Stands = stands, Least = Math.Min(state.Least, clean.Actual) };
            return new Look(clean, next, now, fresh, fresh ? TimeSpan.Zero : now - news.Item1);
        }

        internal long Reserve(SelfBalloonSettings settings) =>
            Math.Max((long)(WouldBeFree * settings.ReserveShare), Math.Max(LeastReserve, Next.Full / LeastShare));

        internal long Gain(SelfBalloonSettings settings) => Math.Max(Slack, (long)(WouldBeFree * settings.GainShare));

        private static long? Clamp(long? bytes, long full) => bytes is { } known ? Math.Clamp(known, 0, full) : null;
    }
}
