using Fabric.Migration;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Unit.Migration;

/// <summary>
/// What the rules promise, whatever the guest does: a model of guest and wire (<see cref="PushModel"/>) that counts every page is driven through them. Promises: every push ends;
/// pre-copy stops the VM only if what is left fits the allowed downtime as counted in the model; auto is done within 1.3 of what one copy takes.
/// </summary>
public sealed class ConvergenceModelTests(ITestOutputHelper output)
{
    private const int Pages = 20_000;
    private const double Wire = 4_000;
    private const double OneCopy = Pages / Wire;
    private const int MaxDowntimeMs = 300;

    public static TheoryData<string> Guests => ["idle", "uniform 0.1", "uniform 0.5", "uniform 0.9", "uniform 1.5", "uniform 2", "uniform 4", "sweep 0.2", "sweep 1", "sweep 2", "sweep 4", "hot 500", "hot 2000", "hot 8000", "hot and cold", "bursts", "stops"];

    [Theory]
    [MemberData(nameof(Guests))]
    public void Auto_ends_within_1_3_of_one_copy(string guest)
    {
        var end = Run(guest, MigrationMode.Auto, canThrottle: false);
        Assert.IsType<ConvergenceDecision.SwitchOver>(end.Decision);
        Assert.InRange(end.Seconds, 0, 1.3 * OneCopy);
        Assert.InRange(end.DowntimeMs, 0, MaxDowntimeMs);
    }

    [Theory]
    [MemberData(nameof(Guests))]
    public void Pre_copy_keeps_the_downtime_with_a_throttle_or_without(string guest)
    {
        foreach (bool canThrottle in new[] { false, true })
        {
            var end = Run(guest, MigrationMode.PreCopy, canThrottle);
            Assert.InRange(end.Rounds, 1, 60);
            Assert.InRange(end.DowntimeMs, 0, MaxDowntimeMs);
            if (end.Decision is ConvergenceDecision.GiveUp)
                Assert.Equal(canThrottle ? Convergence.LeastCpuPercent : 100, end.CpuPercent);
        }
    }

    [Fact]
    public void A_throttle_makes_pre_copy_of_a_guest_that_outruns_the_wire_possible()
    {
        Assert.IsType<ConvergenceDecision.GiveUp>(Run("sweep 2", MigrationMode.PreCopy, canThrottle: false).Decision);
        Assert.IsType<ConvergenceDecision.SwitchOver>(Run("sweep 2", MigrationMode.PreCopy, canThrottle: true).Decision);
        Assert.IsType<ConvergenceDecision.SwitchOver>(Run("uniform 2", MigrationMode.PreCopy, canThrottle: true).Decision);
    }

    [Fact]
    public void Pre_copy_of_a_guest_that_fits_is_as_short_as_it_can_be()
    {
        Assert.InRange(Run("idle", MigrationMode.PreCopy, canThrottle: true).Seconds, OneCopy, 1.05 * OneCopy);
        // A hot set that fits is sent once, with the VM stopped: it is held back in the round.
        var hot = Run("hot 500", MigrationMode.PreCopy, canThrottle: true);
        Assert.InRange(hot.Sent, Pages, Pages * 1.06);
        Assert.Equal(100, hot.CpuPercent);
    }

    [Theory]
    [MemberData(nameof(Guests))]
    public void Hybrid_ends_within_four_rounds(string guest)
    {
        var end = Run(guest, MigrationMode.Hybrid, canThrottle: true);
        Assert.InRange(end.Rounds, 1, Convergence.HybridRounds);
        Assert.InRange(end.Seconds, OneCopy, 2.05 * OneCopy);
        Assert.Equal(100, end.CpuPercent);
    }

    private ModelEnd Run(string guest, MigrationMode mode, bool canThrottle)
    {
        var end = new PushModel(Pages, Wire, Writes(guest)).Run(mode, MaxDowntimeMs, canThrottle);
        output.WriteLine($"{mode,-8} {guest,-14} {end.Seconds / OneCopy:0.00} of one copy, {end.Rounds} rounds, downtime {end.DowntimeMs:0} ms, CPU {end.CpuPercent} %: {end.Decision.Reason}");
        return end;
    }

    private static Func<double, IEnumerable<int>> Writes(string guest)
    {
        var random = new Random(11);
        string[] words = guest.Split(' ');
        double number = words.Length == 2 && double.TryParse(words[1], out double parsed) ? parsed : 0;
        int cursor = 0;
        return words[0] switch
        {
            "idle" => _ => Some(0.01, Pages),
            "uniform" => _ => Some(number, Pages),
            "sweep" => _ => Sweep(number, Pages),
            "hot" when words.Length == 2 => _ => Sweep(20, (int)number),
            "hot" => _ => Some(0.3, Pages).Concat(Sweep(10, 600)),
            "bursts" => seconds => Some(seconds % 2 < 0.5 ? 4 : 0, Pages),
            "stops" => seconds => Some(seconds < OneCopy / 2 ? 0.4 : 0, Pages),
            _ => throw new ArgumentOutOfRangeException(nameof(guest), guest, "not a guest"),
        };

        IEnumerable<int> Some(double rate, int among) => Enumerable.Range(0, Count(rate)).Select(_ => random.Next(among));

        IEnumerable<int> Sweep(double rate, int among) => Enumerable.Range(0, Count(rate)).Select(_ => cursor++ % among);

        int Count(double rate)
        {
            double exact = rate * Wire * PushModel.StepSeconds;
            return (int)exact + (random.NextDouble() < exact - (int)exact ? 1 : 0);
        }
    }
}
