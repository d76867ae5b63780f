using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration;

public sealed class ConvergenceTests
{
    private const long M = ByteSize.Mebi;

    [Theory]
    // mode, round, dirty MiB, wire MiB/s, dirty MiB/s, previous MiB, allowed ms, elapsed ms → another round, or which switch
    [InlineData(MigrationMode.PostCopy, 0, 256, 0, 0, "", 300, 0, MigrationMode.PostCopy)]
    [InlineData(MigrationMode.Hybrid, 0, 256, 0, 0, "", 300, 0, null)]
    [InlineData(MigrationMode.Hybrid, 1, 256, 1000, 5000, "", 300, 200, MigrationMode.PostCopy)]
    [InlineData(MigrationMode.PreCopy, 0, 256, 0, 0, "", 300, 0, null)]
    [InlineData(MigrationMode.PreCopy, 1, 0, 1000, 0, "", 1, 200, MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PreCopy, 1, 1, 2000, 4, "", 300, 250, MigrationMode.PreCopy)] // half a millisecond of copying: nothing to gain
    [InlineData(MigrationMode.PreCopy, 1, 40, 1000, 200, "", 300, 250, null)] // 40 ms, 8 MiB expected: one cheap round
    [InlineData(MigrationMode.PreCopy, 2, 36, 1000, 900, "40", 300, 290, MigrationMode.PreCopy)] // it did not help
    [InlineData(MigrationMode.PreCopy, 1, 64, 1000, 320, "", 30, 200, null)] // does not fit: try
    [InlineData(MigrationMode.PreCopy, 2, 64, 1000, 1000, "64", 30, 264, MigrationMode.PreCopy)] // the same 64 MiB again: stop here
    [InlineData(MigrationMode.Auto, 2, 64, 1000, 999, "64", 30, 264, MigrationMode.PostCopy)]
    [InlineData(MigrationMode.Auto, 1, 200, 1000, 1500, "", 30, 264, MigrationMode.PostCopy)] // faster than the wire
    [InlineData(MigrationMode.PreCopy, 3, 100, 1000, 999, "200,60", 30, 500, null)] // a worse moment than the best: wait
    [InlineData(MigrationMode.PreCopy, 4, 62, 1000, 999, "200,60,100", 30, 600, MigrationMode.PreCopy)] // a local minimum
    [InlineData(MigrationMode.PreCopy, 8, 100, 1000, 999, "200,60,100,99,98,97,96", 30, 900, MigrationMode.PreCopy)] // the limit
    [InlineData(MigrationMode.Auto, 2, 100, 1000, 500, "200", 30, 900, null)] // still getting smaller
    public void The_rules(
        MigrationMode mode, int round, long dirty, long wire, long rate, string previous, double allowed, double elapsed, MigrationMode? expected)
    {
        var decision = Convergence.Decide(new ConvergenceInput(
            mode, round, dirty * M, wire * M, rate * M, [.. previous.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(static p => long.Parse(p) * M)],
            allowed, FixedStopCostMs: 0, TimeSpan.FromMilliseconds(elapsed)));
        Assert.True(expected == decision.SwitchTo, decision.Reason);
        Assert.NotEmpty(decision.Reason);
    }

    [Fact]
    public void A_writer_that_dirties_the_same_set_at_high_speed_gets_two_rounds()
    {
        foreach (double allowed in new[] { 1.0, 10, 30, 60, 300 })
        {
            var (rounds, _) = Run(MigrationMode.PreCopy, 256 * M, 1500 * M, allowed, static (_, ms) => ms < 1 ? 0 : 64 * M);
            Assert.True(rounds <= 2, $"{rounds} rounds at {allowed} ms");
        }
    }

    [Fact]
    public void Every_push_ends_whatever_the_guest_does()
    {
        var random = new Random(7);
        for (int i = 0; i < 5_000; i++)
        {
            double allowed = random.NextDouble() * 500;
            long size = (1 + random.Next(1024)) * M;
            var mode = (MigrationMode)random.Next(4);
            var (rounds, decision) = Run(mode, size, (1 + random.Next(4000)) * M, allowed, (_, _) => random.NextInt64(size));
            Assert.True(rounds <= Convergence.MaxRounds, $"{rounds} rounds");
            Assert.True(double.IsFinite(decision.ExpectedDowntimeMs) && decision.ExpectedDowntimeMs >= 0);
            if (mode == MigrationMode.PreCopy)
                Assert.Equal(MigrationMode.PreCopy, decision.SwitchTo);
        }
    }

    private static (int Rounds, ConvergenceDecision Decision) Run(MigrationMode mode, long size, double wire, double allowed, Func<int, double, long> dirtied)
    {
        var previous = new List<long>();
        double elapsed = 0;
        long toSend = size;
        for (int round = mode == MigrationMode.PostCopy ? 0 : 1; ; round++)
        {
            double ms = toSend / wire * 1000;
            elapsed += ms;
            long dirty = Math.Min(size, dirtied(round, ms));
            var decision = Convergence.Decide(new ConvergenceInput(
                mode, round, dirty, wire, ms > 0 ? dirty / ms * 1000 : 0, [.. previous], allowed, 5, TimeSpan.FromMilliseconds(elapsed)));
            if (!decision.AnotherRound || round > 100)
                return (round, decision);
            previous.Add(dirty);
            toSend = dirty;
        }
    }
}
