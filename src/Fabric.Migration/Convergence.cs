// When to stop the VM. Asked by the source's agent at the end of each push round; a pure function of measured numbers.
using System.Globalization;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>The numbers at the end of a push round.</summary>
/// <param name="Mode">What was asked for.</param>
/// <param name="Round">Rounds that ended, from 1. 0 is allowed for post-copy, which does none.</param>
/// <param name="DirtyBytes">Bytes that would have to be sent with the VM stopped, now.</param>
/// <param name="WireRate">Bytes a second on the wire in this round; 0 when nothing was sent.</param>
/// <param name="DirtyRate">Bytes a second that the guest made dirty in this round.</param>
/// <param name="PreviousDirty"><paramref name="DirtyBytes"/> at the end of each earlier round, oldest first.</param>
/// <param name="MaxDowntimeMs">Milliseconds; what the user allows.</param>
/// <param name="FixedStopCostMs">Milliseconds of a stop that do not depend on memory: stop, device state, resume.</param>
/// <param name="Elapsed">Since the push began.</param>
public sealed record ConvergenceInput(
    MigrationMode Mode, int Round, long DirtyBytes, double WireRate, double DirtyRate, IReadOnlyList<long> PreviousDirty,
    double MaxDowntimeMs, double FixedStopCostMs, TimeSpan Elapsed);

/// <summary><paramref name="SwitchTo"/>: null for another round, else PreCopy (all is sent while the VM stands) or PostCopy (the rest is pulled).</summary>
public sealed record ConvergenceDecision(MigrationMode? SwitchTo, string Reason, double ExpectedDowntimeMs)
{
    public bool AnotherRound => SwitchTo is null;
}

/// <summary>
/// The rules, first match wins. post-copy: at once. hybrid: after one round. pre-copy and auto:
/// nothing left → switch; the rest fits the allowed downtime → switch, unless one more short round is expected to halve it;
/// the rest does not fit → go on while rounds make it smaller, at most <see cref="MaxRounds"/>. Where they do not, auto switches and pulls the rest;
/// pre-copy switches at a local minimum. So every push ends, and none does a round that the last one showed to be useless.
/// </summary>
public static class Convergence
{
    /// <summary>Rounds after which a push ends in any case.</summary>
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

    public static ConvergenceDecision Decide(ConvergenceInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        double wireRate = input.WireRate > 0 && double.IsFinite(input.WireRate) ? input.WireRate : UnmeasuredWireRate;
        double copyMs = Math.Max(0, input.DirtyBytes) / wireRate * 1000;
        double stopMs = input.FixedStopCostMs + copyMs;
        switch (input.Mode)
        {
            case MigrationMode.PostCopy:
                return new ConvergenceDecision(MigrationMode.PostCopy, "post-copy pushes nothing first", input.FixedStopCostMs);
            case MigrationMode.Hybrid when input.Round >= 1:
                return new ConvergenceDecision(MigrationMode.PostCopy, "hybrid pulls what one round left", input.FixedStopCostMs);
            case MigrationMode.Hybrid:
                return Again("the first round", input.FixedStopCostMs);
            default:
                break;
        }

        if (input.Round < 1)
            return Again("the first round", stopMs);
        if (input.DirtyBytes <= 0)
            return Switch("nothing is left to copy");
        if (stopMs <= input.MaxDowntimeMs)
            return WorthPolishing(input, copyMs)
                ? Again("a short round is expected to halve what is left", stopMs)
                : Switch(Text($"{ByteSize.Format(input.DirtyBytes)} fit into {input.MaxDowntimeMs:0} ms"));
        return DoesNotFit(input, wireRate, stopMs);

        ConvergenceDecision Switch(string reason) => new(MigrationMode.PreCopy, reason, stopMs);
    }

    private static ConvergenceDecision DoesNotFit(ConvergenceInput input, double wireRate, double stopMs)
    {
        bool auto = input.Mode == MigrationMode.Auto;
        string size = Text($"{ByteSize.Format(input.DirtyBytes)} need {stopMs:0} ms, more than the {input.MaxDowntimeMs:0} ms allowed");
        if (auto && input.DirtyRate >= wireRate)
            return Pull("the guest writes faster than the wire carries: " + size);
        if (input.Round >= MaxRounds)
            return auto ? Pull(Text($"{MaxRounds} rounds did not get there: ") + size) : Stop(Text($"{MaxRounds} rounds are the limit: ") + size);
        if (input.PreviousDirty.Count == 0)
            return Again("the second round shows whether rounds help", stopMs);
        long best = input.PreviousDirty.Min();
        if (input.DirtyBytes < best * StallShare)
            return Again("rounds still make it smaller", stopMs);
        if (auto)
            return Pull("the last round made no progress: " + size);
        return input.DirtyBytes <= best * LocalMinimumShare
            ? Stop("further rounds would not help: " + size)
            : Again("waiting for a calmer moment", stopMs);

        ConvergenceDecision Pull(string reason) => new(MigrationMode.PostCopy, reason, input.FixedStopCostMs);
        ConvergenceDecision Stop(string reason) => new(MigrationMode.PreCopy, reason, stopMs);
    }

    private static bool WorthPolishing(ConvergenceInput input, double copyMs)
    {
        if (copyMs < PolishGainMs || input.Round >= MaxRounds)
            return false;
        if (copyMs > Math.Max(PolishFloorMs, input.Elapsed.TotalMilliseconds * PolishTimeShare))
            return false;
        double expectedNext = input.DirtyRate * copyMs / 1000;
        bool expectedToShrink = expectedNext <= input.DirtyBytes * PolishShare;
        // The dirty rate of a long round is too low for a small hot set: what rounds really did counts more than what they promise.
        bool lastRoundDid = input.PreviousDirty.Count == 0 || input.DirtyBytes <= input.PreviousDirty[^1] * PolishShare;
        return expectedToShrink && lastRoundDid;
    }

    private static ConvergenceDecision Again(string reason, double expectedMs) => new(null, reason, expectedMs);

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
