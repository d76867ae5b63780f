using Fabric.Core;
using Fabric.Migration;
using Xunit;
using static Fabric.Unit.Migration.Samples;

namespace Fabric.Unit.Migration;

/// <summary>A host that has as many moves as the limits allow is asked again, with a pause and under a new id, until there is room or a long deadline ends the migration.</summary>
public sealed class BusyHostTests
{
    private static readonly MigrationTimings Timings = MigrationTimings.Default;

    public static TheoryData<string> Steps => ["Prepare", "Push"];

    [Theory]
    [MemberData(nameof(Steps))]
    public void A_busy_host_is_asked_again_after_a_pause(string name)
    {
        var (state, step) = At(name);
        var seen = Busy(step, Now);
        var pause = Brain.Decide(state, seen, Timings);
        Assert.Empty(pause.Events);
        Assert.Empty(pause.Orders);
        Assert.Equal(Now + Timings.Busy, pause.LookAgainAt);

        var again = Assert.Single(Brain.Decide(state, seen with { Now = Now + Timings.Busy }, Timings).Orders);
        Assert.Equal((step, 3), (again.Step, again.Attempt));
    }

    [Theory]
    [MemberData(nameof(Steps))]
    public void Only_a_long_deadline_ends_a_migration_that_waits_for_its_place(string name)
    {
        var (state, step) = At(name);
        var end = Now + Timings.Place;
        var failed = Assert.IsType<StepFailed>(Assert.Single(Brain.Decide(state, Busy(step, end) with { Now = end }, Timings).Events));
        Assert.Equal(ErrorCodes.Busy, failed.Cause.Code);
        var late = Now + (2 * Timings.Prepare);
        Assert.Empty(Brain.Decide(state, Busy(step, late) with { Now = late }, Timings).Events);

        // Any other refusal does, and so does time once the host has agreed.
        Assert.IsType<StepFailed>(Assert.Single(Brain.Decide(state, Answered(step, new FabricError(ErrorCodes.Exhausted, "no memory"), late) with { Now = late }, Timings).Events));
        Assert.IsType<StepFailed>(Assert.Single(Brain.Decide(state, Answered(step, null, late) with { Now = late }, Timings).Events));
    }

    [Theory]
    [MemberData(nameof(Steps))]
    public void The_limits_of_the_plan_go_with_the_command(string name)
    {
        var (state, _) = At(name);
        var limits = new BatchLimits(3, 2, 1);
        state = state switch
        {
            Planned planned => planned with { Plan = Plan with { Limits = limits } },
            Prepared prepared => prepared with { Plan = Plan with { Limits = limits } },
            _ => state,
        };
        var command = Assert.Single(Brain.Decide(state, Idle, Timings).Orders).Command;
        Assert.Equal(limits, command switch { PrepareIncoming c => c.Limits, StartPush c => c.Limits, _ => null });
    }

    /// <summary>The VM runs at the source, and nobody has heard of the migration.</summary>
    private static Observation Idle => CrashTableTests.See(new VmFact(Spec, Plan.RunEpoch, Owner: true, VmRunState.Running, null, null, null), null);

    private static Observation Busy(MigrationStep step, DateTimeOffset at) => Answered(step, new FabricError(ErrorCodes.Busy, "two moves"), at);

    private static Observation Answered(MigrationStep step, FabricError? error, DateTimeOffset at) =>
        Idle with { Answers = new Dictionary<MigrationStep, StepAnswer> { [step] = new(2, error, at) } };

    private static (ActiveState State, MigrationStep Step) At(string name) =>
        name == "Prepare" ? (new Planned(Plan, Now), MigrationStep.Prepare) : (new Prepared(Plan, Now, Place), MigrationStep.Push);
}
