// When to stop the VM. Asked by the source's agent at the end of each push round, and in the middle of long ones; pure functions of measured numbers.
// Why the rules are what they are: docs/decisions/0009-pre-copy-that-ends.md.
using System.Globalization;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>
/// The rules, first match wins. post-copy: at once. hybrid: after one round, or another one or two while each leaves less than half. pre-copy and auto:
/// nothing left → switch; the rest fits the allowed downtime → switch, unless one more short round is expected to halve it;
/// the rest does not fit → go on while rounds make it smaller. Where they do not, auto switches and pulls the rest, which it does sooner if that is needed to be done within
/// <see cref="AutoShare"/> of what one copy of the memory takes; pre-copy lets the guest have less CPU time, step by step, and gives up where even that does not
/// help: no stop is begun that is not expected to fit what the user allows, with a tenth to spare.
/// </summary>
public static class Convergence
{
    /// <summary>Rounds at one speed of the guest after which there is no other at that speed.</summary>
    public const int MaxRounds = 8;

    /// <summary>A round that leaves more than this share of the best so far made no progress (the stall rule of KubeVirt uses 0.96 over a window of time).</summary>
    public const double StallShare = 0.9;

    /// <summary>Above the best so far by more than this: not a local minimum, worth waiting for a better moment.</summary>
    public const double LocalMinimumShare = 1.1;

    /// <summary>What is left is expected to shrink to this share or less for a further round to be worth it when the rest already fits.</summary>
    public const double PolishShare = 0.5;

    /// <summary>A further round for polish takes at most this share of the time so far, or <see cref="PolishFloorMs"/>.</summary>
    public const double PolishTimeShare = 0.25;
    public const double PolishFloorMs = 20;

    /// <summary>Milliseconds of copying in the stop below which nothing is gained by another round.</summary>
    public const double PolishGainMs = 1;

    /// <summary>Assumed bytes a second when a round sent nothing that could be measured.</summary>
    public const double UnmeasuredWireRate = 64 * ByteSize.Mebi;

    /// <summary>
    /// auto sends at most this share of the memory's bytes, what it would have to pull among them: a push that comes to this ends. Below the 1.3 that is promised, since
    /// the guest goes on writing between two looks and while it is being stopped.
    /// </summary>
    public const double AutoShare = 1.15;

    /// <summary>
    /// Share of what a push had to send by then, or has to in this round, after which a guest that outruns the line is believed to go on doing so: what it is about to make stale need not be stale first. The line and not the wire: how well its pages pack is
    /// known of those that were sent by then, which are the first of its memory and not those that it writes.
    /// </summary>
    public const double BelievedShare = 0.1;

    /// <summary>Rounds of a hybrid migration, if each leaves at most <see cref="PolishShare"/> of what it had to send.</summary>
    public const int HybridRounds = 3;

    /// <summary>Milliseconds of pulling below which hybrid does no further round.</summary>
    public const double HybridGainMs = 50;

    /// <summary>Milliseconds: in less than this nobody can say which pages are written all the time.</summary>
    public const double HotWindowMs = 200;

    /// <summary>Least CPU time that a guest is left, per cent.</summary>
    public const int LeastCpuPercent = 5;

    /// <summary>A step leaves the guest at most this share of the CPU time that it had.</summary>
    public const double ThrottleShare = 0.5;

    /// <summary>Why a post-copy has converged as soon as it is connected.</summary>
    public const string NothingFirst = "post-copy pushes nothing first";

    /// <summary>A stop is planned within this share of what the user allows: the guest writes on until it stands, and a wire or a host may be busier then than it was.</summary>
    public const double PlannedShare = 0.9;

    /// <summary>What a user is told to allow, as a multiple of the best that the rounds saw.</summary>
    private const double PromiseMargin = 1.25;

    /// <summary>What to do at the end of a round (before the first one, at its number 0).</summary>
    public static ConvergenceDecision Decide(ConvergenceInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.Mode == MigrationMode.PostCopy)
            return new ConvergenceDecision.SwitchOver(MigrationMode.PostCopy, NothingFirst, input.FixedStopCostMs);
        if (input.Round < 1)
            return Again("the first round");
        if (input.Mode == MigrationMode.Hybrid)
            return Hybrid(input);
        if (input.DirtyBytes <= 0)
            return Complete(input, "nothing is left to copy");
        if (Fits(input, input.StopMs))
        {
            return WorthPolishing(input)
                ? Again("a short round is expected to halve what is left")
                : Complete(input, Text($"{ByteSize.Format(input.DirtyBytes)} fit into {input.MaxDowntimeMs:0} ms"));
        }

        return input.Mode == MigrationMode.Auto ? AutoDoesNotFit(input) : PreCopyDoesNotFit(input);
    }

    /// <summary>
    /// Whether a round under way is still worth its end: null to go on. Only auto leaves a round: it has somewhere to go. What is stale by now must be more than would fit the downtime, since what is stale
    /// early in a round may be all that the guest ever writes; of a guest that outruns the line, what it has just written must be.
    /// </summary>
    public static ConvergenceDecision? BreakOff(ConvergenceInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.Mode != MigrationMode.Auto || Fits(input, input.StopMs))
            return null;
        if (HotDoesNotFit(input) is { } hot)
            return Pull(input, hot);
        bool believed = input.SentBytes >= BelievedShare * (input.SentBytes + input.LeftBytes);
        if (believed && input.FreshRate >= input.Line && !Fits(input, input.FixedStopCostMs + (input.WrittenBytes / input.Line * 1000)))
            return Pull(input, Outrun(input.FreshRate, input.Line));
        if (Fits(input, input.FixedStopCostMs + input.CopyMs(input.DirtyBytes)))
            return null;
        if (input.FreshRate >= input.Wire)
            return Pull(input, Outrun(input.FreshRate, input.Wire));
        return input.MemoryBytes > 0 && input.SentBytes + input.LeftBytes + input.DirtyBytes > AutoShare * input.MemoryBytes
            ? Pull(input, Text($"{ByteSize.Format(input.DirtyBytes)} of {ByteSize.Format(input.SentBytes)} would have to be sent again"))
            : null;
    }

    private static ConvergenceDecision Hybrid(ConvergenceInput input)
    {
        long before = input.PreviousDirty.Count > 0 ? input.PreviousDirty[^1] : input.MemoryBytes;
        bool shrinks = input.DirtyBytes <= before * PolishShare && ExpectedNext(input) <= input.DirtyBytes * PolishShare;
        return shrinks && input.Round < HybridRounds && input.CopyMs(input.DirtyBytes) >= HybridGainMs
            ? Again("another round is expected to halve what would be pulled")
            : Pull(input, Text($"hybrid pulls the {ByteSize.Format(input.DirtyBytes)} that {input.Round} {(input.Round == 1 ? "round" : "rounds")} left"));
    }

    private static ConvergenceDecision AutoDoesNotFit(ConvergenceInput input)
    {
        double rate = Math.Max(input.DirtyRate, input.FreshRate);
        if (rate >= input.Wire)
            return Pull(input, Outrun(rate, input.Wire));
        if (HotDoesNotFit(input) is { } hot)
            return Pull(input, hot);
        // What is written during a round is the next one's: a geometric series.
        double toGo = input.DirtyBytes / (1 - (rate / input.Wire));
        if (input.MemoryBytes > 0 && input.SentBytes + toGo > AutoShare * input.MemoryBytes)
            return Pull(input, Text($"rounds would send {(input.SentBytes + toGo) / input.MemoryBytes:0.0} times the memory: {TooMuch(input)}"));
        if (input.Round >= MaxRounds)
            return Pull(input, Text($"{MaxRounds} rounds did not get there: {TooMuch(input)}"));
        if (input.PreviousDirty.Count == 0)
            return Again("the second round shows whether rounds help");
        return input.DirtyBytes < input.PreviousDirty.Min() * StallShare
            ? Again("rounds still make it smaller")
            : Pull(input, $"the last round made no progress: {TooMuch(input)}");
    }

    private static ConvergenceDecision PreCopyDoesNotFit(ConvergenceInput input)
    {
        int rounds = input.PreviousDirty.Count + 1;
        if (rounds < MaxRounds)
        {
            if (rounds == 1)
                return Again("the second round shows whether rounds help");
            long best = input.PreviousDirty.Min();
            if (input.DirtyBytes < best * StallShare)
                return Again("rounds still make it smaller");
            if (input.DirtyBytes > best * LocalMinimumShare)
                return Again("waiting for a calmer moment");
        }

        if (input.CanThrottle && NextCpuPercent(input) is { } percent)
            return new ConvergenceDecision.Throttle(percent, Text($"throttled to {percent} %: rounds stopped helping, {TooMuch(input)}"));
        string slowed = input.CpuPercent < 100 ? Text($" although the guest was left only {input.CpuPercent} % of its CPU time") : "";
        double least = input.FixedStopCostMs + input.CopyMs(input.PreviousDirty.Append(input.DirtyBytes).Min());
        return new ConvergenceDecision.GiveUp(new FabricError(
            ErrorCodes.NotConverging, $"Pre-copy does not get there{slowed}: {TooMuch(input)}. The VM runs on at its source.",
            Text($"Use --mode auto, or --max-downtime {Math.Ceiling(least * PromiseMargin):0} or more.")));
    }

    /// <summary>Null at the bottom. Aims at what fits, as if what is left followed the guest's speed, and never by small steps: each takes rounds.</summary>
    private static int? NextCpuPercent(ConvergenceInput input)
    {
        if (input.CpuPercent <= LeastCpuPercent)
            return null;
        double fits = Math.Max(0, input.MaxDowntimeMs - input.FixedStopCostMs) / Math.Max(1e-3, input.CopyMs(input.DirtyBytes));
        return Math.Max(LeastCpuPercent, (int)(input.CpuPercent * Math.Min(ThrottleShare, fits * StallShare)));
    }

    private static bool WorthPolishing(ConvergenceInput input)
    {
        double copyMs = input.CopyMs(input.DirtyBytes);
        if (copyMs < PolishGainMs || input.PreviousDirty.Count + 1 >= MaxRounds)
            return false;
        if (copyMs > Math.Max(PolishFloorMs, input.Elapsed.TotalMilliseconds * PolishTimeShare))
            return false;
        // The dirty rate of a long round is too low for a small hot set: what rounds really did counts more than what they promise.
        bool lastRoundDid = input.PreviousDirty.Count == 0 || input.DirtyBytes <= input.PreviousDirty[^1] * PolishShare;
        return lastRoundDid && ExpectedNext(input) <= input.DirtyBytes * PolishShare;
    }

    /// <summary>Bytes that are expected to be dirty after one more round.</summary>
    private static double ExpectedNext(ConvergenceInput input)
    {
        double copyMs = input.CopyMs(input.DirtyBytes);
        double next = input.DirtyRate * copyMs / 1000;
        return copyMs >= HotWindowMs ? Math.Max(input.HotBytes, next) : next;
    }

    /// <summary>Why no round will ever leave little enough: the hot pages alone are too much. Null when they fit, or when the downtime is too short to know.</summary>
    private static string? HotDoesNotFit(ConvergenceInput input)
    {
        double ms = input.FixedStopCostMs + input.CopyMs(input.HotBytes);
        return ms > Math.Max(input.MaxDowntimeMs, HotWindowMs)
            ? Text($"the {ByteSize.Format(input.HotBytes)} that the guest writes all the time need {ms:0} ms, more than the {input.MaxDowntimeMs:0} ms allowed")
            : null;
    }

    private static bool Fits(ConvergenceInput input, double stopMs) => stopMs <= input.MaxDowntimeMs * PlannedShare;

    private static string Outrun(double rate, double wire) => Text($"the guest writes {ByteSize.Format((long)rate)}/s, the wire carries {ByteSize.Format((long)wire)}/s");

    private static string TooMuch(ConvergenceInput input) =>
        Text($"{ByteSize.Format(input.DirtyBytes)} need {input.StopMs:0} ms with the VM stopped; {input.MaxDowntimeMs * PlannedShare:0} of the {input.MaxDowntimeMs:0} ms allowed may be planned");

    private static ConvergenceDecision.AnotherRound Again(string reason) => new(reason);

    private static ConvergenceDecision.SwitchOver Complete(ConvergenceInput input, string reason) => new(MigrationMode.PreCopy, reason, input.StopMs);

    private static ConvergenceDecision.SwitchOver Pull(ConvergenceInput input, string reason) => new(MigrationMode.PostCopy, "switched to post-copy: " + reason, input.FixedStopCostMs);

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
