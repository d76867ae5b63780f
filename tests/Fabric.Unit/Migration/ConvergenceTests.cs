using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration;

/// <summary>The rules as a table: what was measured, and what must follow from it.</summary>
public sealed class ConvergenceTests
{
    private const long M = ByteSize.Mebi;

    [Theory]
    // mode, round, dirty MiB, wire MiB/s, dirty MiB/s, previous MiB, allowed ms, elapsed ms → what is done
    [InlineData(MigrationMode.PostCopy, 0, 256, 0, 0, "", 300, 0, "post-copy")]
    [InlineData(MigrationMode.Hybrid, 0, 256, 0, 0, "", 300, 0, "again")]
    [InlineData(MigrationMode.Hybrid, 1, 256, 1000, 5000, "", 300, 200, "post-copy")]
    [InlineData(MigrationMode.PreCopy, 0, 256, 0, 0, "", 300, 0, "again")]
    [InlineData(MigrationMode.PreCopy, 1, 0, 1000, 0, "", 1, 200, "pre-copy")]
    [InlineData(MigrationMode.PreCopy, 1, 1, 2000, 4, "", 300, 250, "pre-copy")] // half a millisecond of copying: nothing to gain
    [InlineData(MigrationMode.PreCopy, 1, 40, 1000, 200, "", 300, 250, "again")] // 40 ms, 8 MiB expected: one cheap round
    [InlineData(MigrationMode.PreCopy, 2, 36, 1000, 900, "40", 300, 290, "pre-copy")] // it did not help
    [InlineData(MigrationMode.PreCopy, 1, 64, 1000, 320, "", 30, 200, "again")] // does not fit: try
    [InlineData(MigrationMode.PreCopy, 2, 64, 1000, 1000, "64", 30, 264, "give up")] // the same 64 MiB again, and the promise is 30 ms
    [InlineData(MigrationMode.Auto, 2, 64, 1000, 999, "64", 30, 264, "post-copy")]
    [InlineData(MigrationMode.Auto, 1, 200, 1000, 1500, "", 30, 264, "post-copy")] // faster than the wire
    [InlineData(MigrationMode.PreCopy, 3, 100, 1000, 999, "200,60", 30, 500, "again")] // a worse moment than the best: wait
    [InlineData(MigrationMode.PreCopy, 4, 62, 1000, 999, "200,60,100", 30, 600, "give up")] // a local minimum, beyond what is allowed
    [InlineData(MigrationMode.PreCopy, 4, 27, 1000, 999, "200,60,100", 30, 600, "pre-copy")]
    [InlineData(MigrationMode.PreCopy, 8, 100, 1000, 999, "200,60,100,99,98,97,96", 30, 900, "give up")] // the limit
    [InlineData(MigrationMode.Auto, 2, 100, 1000, 500, "200", 30, 900, "again")] // still getting smaller
    public void At_the_end_of_a_round(
        MigrationMode mode, int round, long dirty, long wire, long rate, string previous, double allowed, double elapsed, string expected)
    {
        var decision = Convergence.Decide(new ConvergenceInput(
            mode, round, dirty * M, wire * M, rate * M, [.. previous.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(static p => long.Parse(p) * M)],
            allowed, FixedStopCostMs: 0, TimeSpan.FromMilliseconds(elapsed)));
        Assert.True(expected == Name(decision), $"{Name(decision)}: {decision.Reason}");
        Assert.NotEmpty(decision.Reason);
    }

    [Theory]
    // share of CPU, dirty MiB, previous MiB → what is done; wire 1000 MiB/s, 100 ms allowed
    [InlineData(100, 200, "200", "throttle 45")] // what fits is half of it
    [InlineData(100, 110, "110", "throttle 50")] // a step is never small
    [InlineData(100, 4000, "4000", "throttle 5")] // and never leaves less than the least
    [InlineData(45, 200, "", "again")] // the new speed shows in the second round after it
    [InlineData(45, 150, "200", "again")]
    [InlineData(45, 199, "200", "throttle 20")]
    [InlineData(5, 199, "200", "give up")]
    [InlineData(5, 91, "200", "again")] // it fits, but hardly
    [InlineData(5, 89, "200", "pre-copy")]
    public void Pre_copy_slows_the_guest_before_it_gives_up(int percent, long dirty, string previous, string expected)
    {
        var decision = Convergence.Decide(new ConvergenceInput(
            MigrationMode.PreCopy, 5, dirty * M, 1000 * M, 999 * M, [.. previous.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(static p => long.Parse(p) * M)],
            100, FixedStopCostMs: 0, TimeSpan.FromSeconds(1), CpuPercent: percent, CanThrottle: true));
        Assert.True(expected == Name(decision), $"{Name(decision)}: {decision.Reason}");
    }

    [Theory]
    // sent, left, dirty, hot MiB, fresh MiB/s → what is done in the middle of a round; memory 1000 MiB, wire 100 MiB/s, 300 ms allowed: 27 MiB fit
    [InlineData(500, 500, 20, 0, 500, "goes on")] // what is stale fits: it may be all that the guest ever writes
    [InlineData(500, 500, 40, 10, 50, "goes on")]
    [InlineData(500, 500, 40, 10, 120, "post-copy")] // it outruns the wire
    [InlineData(500, 500, 10, 31, 0, "post-copy")] // the hot pages alone do not fit, whatever the rounds do
    [InlineData(500, 500, 149, 0, 50, "goes on")]
    [InlineData(500, 500, 151, 0, 50, "post-copy")] // the share of auto is used up
    [InlineData(1100, 20, 5, 0, 50, "goes on")] // what is left fits: it ends by itself
    public void In_the_middle_of_a_round(long sent, long left, long dirty, long hot, long fresh, string expected)
    {
        ConvergenceInput input = new(
            MigrationMode.Auto, 0, dirty * M, 100 * M, 0, [], 300, FixedStopCostMs: 0, TimeSpan.FromSeconds(5),
            sent * M, left * M, hot * M, fresh * M, 1000 * M);
        var decision = Convergence.BreakOff(input);
        Assert.True(expected == (decision is null ? "goes on" : Name(decision)), decision?.Reason);
        foreach (var other in new[] { MigrationMode.PreCopy, MigrationMode.Hybrid })
            Assert.Null(Convergence.BreakOff(input with { Mode = other }));
    }

    [Theory]
    // sent, left, dirty, fresh MiB/s, written MiB → what is done of a guest of which little is stale yet; memory 1000 MiB, wire 100 MiB/s, line 80, 300 ms allowed: 27 MiB fit, 21 unpacked
    [InlineData(100, 900, 5, 120, 22, "post-copy")]
    [InlineData(99, 901, 5, 120, 22, "goes on")] // it may have been a moment
    [InlineData(100, 900, 5, 120, 21, "goes on")] // it writes fast, but not much
    [InlineData(100, 900, 5, 80, 22, "post-copy")] // faster than what cannot be packed
    [InlineData(100, 900, 5, 79, 22, "goes on")]
    [InlineData(100, 900, 28, 120, 0, "post-copy")]
    [InlineData(100, 900, 28, 90, 0, "goes on")]
    public void A_guest_that_outruns_the_wire_is_not_sent_first(long sent, long left, long dirty, long fresh, long written, string expected)
    {
        var decision = Convergence.BreakOff(new ConvergenceInput(
            MigrationMode.Auto, 0, dirty * M, 100 * M, 0, [], 300, FixedStopCostMs: 0, TimeSpan.FromSeconds(1), sent * M, left * M, FreshRate: fresh * M, MemoryBytes: 1000 * M, WrittenBytes: written * M, LineRate: 80 * M));
        Assert.True(expected == (decision is null ? "goes on" : Name(decision)), decision?.Reason);
    }

    [Theory]
    // round, dirty MiB, dirty MiB/s, previous MiB → what hybrid does; memory 1000 MiB, wire 100 MiB/s
    [InlineData(1, 400, 40, "", "again")]
    [InlineData(1, 600, 40, "", "post-copy")] // more than half is stale
    [InlineData(1, 400, 60, "", "post-copy")] // the next round would leave more than half
    [InlineData(2, 150, 40, "400", "again")]
    [InlineData(3, 60, 40, "400,150", "post-copy")] // three are enough
    [InlineData(1, 4, 1, "", "post-copy")] // not worth a round
    public void Hybrid_goes_on_while_a_round_halves_what_is_left(int round, long dirty, long rate, string previous, string expected)
    {
        var decision = Convergence.Decide(new ConvergenceInput(
            MigrationMode.Hybrid, round, dirty * M, 100 * M, rate * M, [.. previous.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(static p => long.Parse(p) * M)],
            300, FixedStopCostMs: 0, TimeSpan.FromSeconds(10), MemoryBytes: 1000 * M));
        Assert.True(expected == Name(decision), $"{Name(decision)}: {decision.Reason}");
    }

    [Fact]
    public void Who_gives_up_says_what_would_help()
    {
        var decision = Convergence.Decide(new ConvergenceInput(
            MigrationMode.PreCopy, 4, 95 * M, 100 * M, 90 * M, [200 * M, 90 * M], 300, FixedStopCostMs: 10, TimeSpan.FromSeconds(5), CpuPercent: 5, CanThrottle: true));
        var error = Assert.IsType<ConvergenceDecision.GiveUp>(decision).Error;
        Assert.Equal(ErrorCodes.NotConverging, error.Code);
        Assert.Contains("5 %", error.Message, StringComparison.Ordinal);
        Assert.Contains("960 ms with the VM stopped; 270 of the 300 ms allowed may be planned", error.Message, StringComparison.Ordinal);
        Assert.Equal("Use --mode auto, or --max-downtime 1138 or more.", error.Hint); // the 910 ms of the best round, and a quarter
    }

    private static string Name(ConvergenceDecision decision) => decision switch
    {
        ConvergenceDecision.AnotherRound => "again",
        ConvergenceDecision.Throttle t => $"throttle {t.CpuPercent}",
        ConvergenceDecision.GiveUp => "give up",
        ConvergenceDecision.SwitchOver { To: MigrationMode.PreCopy } => "pre-copy",
        ConvergenceDecision.SwitchOver { To: MigrationMode.PostCopy } => "post-copy",
        _ => throw new ArgumentOutOfRangeException(nameof(decision), decision, "not a decision"),
    };
}
