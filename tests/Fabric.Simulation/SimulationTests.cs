using System.Globalization;
using Fabric.Actors.Testing;
using Fabric.Journal;
using Fabric.Simulation.Plants;
using Fabric.Simulation.Stores;
using Fabric.Simulation.Worlds;
using Fabric.Unit.Journal;
using Xunit;

namespace Fabric.Simulation;

/// <summary>
/// A bounded number of seeds (FABRIC_SIMULATION_SEEDS, 500 unless said otherwise) end without a violation; what makes that worth anything is below:
/// each planted bug is found, and a seed says the same every time.
/// </summary>
public sealed class SimulationTests
{
    private const int Ranges = 10;
    private const int SeedsForPlant = 1000;

    public static TheoryData<int> Parts => [.. Enumerable.Range(0, Ranges)];

    public static TheoryData<string> Bugs => [.. PlantedBugs.All.Keys];

    private static int Seeds => int.TryParse(Environment.GetEnvironmentVariable("FABRIC_SIMULATION_SEEDS"), CultureInfo.InvariantCulture, out int seeds) ? seeds : 500;

    [Theory]
    [MemberData(nameof(Parts))]
    public void Seeds_end_without_a_violation(int part)
    {
        for (int seed = 1 + part; seed <= Seeds; seed += Ranges)
        {
            var verdict = new World(Plan.Of(seed)).Run();
            if (verdict.Violation is not null)
                Assert.Fail(Story(verdict, null));
        }
    }

    [Theory]
    [MemberData(nameof(Bugs))]
    public void A_planted_bug_is_found(string bug)
    {
        for (int seed = 1; seed <= SeedsForPlant; seed++)
        {
            // A seed that fails without the bug says nothing about it.
            if (new World(Plan.Of(seed), bug).Run().Violation is not null && new World(Plan.Of(seed)).Run().Violation is null)
                return;
        }

        Assert.Fail($"{SeedsForPlant} seeds do not find that {PlantedBugs.All[bug]}.");
    }

    [Fact]
    public void The_same_seed_gives_the_same_run()
    {
        for (int seed = 1; seed <= 20; seed++)
        {
            var first = new World(Plan.Of(seed)).Run();
            Assert.Equal(first, new World(Plan.Of(seed)).Run());
            Assert.NotEqual(first.Fingerprint, new World(Plan.Of(seed + 1)).Run().Fingerprint);
        }
    }

    [Fact]
    public void A_failing_schedule_is_made_small_and_still_fails()
    {
        var plan = Plan.Of(1);
        var verdict = new World(plan, "stale-page").Run();
        var (small, shrunk) = Shrinking.Shrink(plan, verdict, "stale-page");
        Assert.True(small.Schedule.Count < plan.Schedule.Count);
        Assert.StartsWith("I3", shrunk.Violation, StringComparison.Ordinal);
        Assert.Equal(shrunk, new World(small, "stale-page").Run());
    }

    private static string Story(Verdict verdict, string? plant)
    {
        using var text = new StringWriter(CultureInfo.InvariantCulture);
        text.WriteLine($"seed {verdict.Seed}: {verdict.Violation}");
        Shrinking.Report(text, verdict, plant);
        return text.ToString();
    }
}

/// <summary>The store of the simulation keeps the contract that the real ones keep.</summary>
public sealed class MemoryStoreTests : JournalContract
{
    private MemoryStore? _store;

    private ManualTime Clock { get; } = new();

    protected override Task<IJournal> OpenAsync() => Task.FromResult<IJournal>(_store ??= new MemoryStore(Clock));

    protected override Task RemoveAsync() => Task.CompletedTask;

    protected override Task AdvanceAsync(TimeSpan by)
    {
        Clock.Advance(by);
        return Task.CompletedTask;
    }
}
