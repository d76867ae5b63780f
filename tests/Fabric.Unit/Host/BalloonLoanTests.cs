using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>
/// What a guest's balloon takes for a migration is given back, wherever the guest goes on and whoever dies meanwhile: real agents and ledgers, machines with a balloon whose target outlives
/// the agent and travels in the device state. Proven by the target of the machine that runs in the end. That the balloon was used at all is part of the claim of each row.
/// </summary>
public sealed class BalloonLoanTests : IDisposable
{
    private const long Full = 256 * ByteSize.Mebi;
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = Full, Kernel = "/k", Accelerator = Accelerator.Tcg };

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-loan-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PostCopy)]
    public async Task A_guest_that_moved_has_all_of_its_memory_again(MigrationMode mode)
    {
        await using var run = await StartAsync(mode);
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Completed, run.Story);
        await CheckReturnedAsync(run);
    }

    /// <summary>The destination dies in the push, so the guest stays; then the source dies at the record.</summary>
    [Theory]
    [InlineData(FaultMoment.Before, "push-ended")]
    [InlineData(FaultMoment.After, "push-ended")]
    [InlineData(FaultMoment.Before, "memory-returned")]
    [InlineData(FaultMoment.After, "memory-returned")]
    public async Task A_guest_that_stayed_has_it_again_after_a_crash(FaultMoment moment, string kind)
    {
        await using var run = await StartAsync(MigrationMode.PreCopy);
        run.Source.DieAt = (moment, kind);
        run.KillDestinationAfter("push-started");
        await run.EndAsync(Deadline);
        await CheckReturnedAsync(run, deaths: 1);
    }

    [Theory]
    [InlineData(FaultMoment.Before, "handing-over")]
    [InlineData(FaultMoment.After, "handing-over")]
    [InlineData(FaultMoment.Before, "token-sent")]
    [InlineData(FaultMoment.After, "token-sent")]
    [InlineData(FaultMoment.After, "handed-over")]
    public async Task A_source_that_dies_on_the_way_leaves_nobody_small(FaultMoment moment, string kind)
    {
        await using var run = await StartAsync(MigrationMode.PostCopy);
        run.Source.DieAt = (moment, kind);
        await run.EndAsync(Deadline);
        await CheckReturnedAsync(run, deaths: 1);
    }

    [Fact]
    public async Task A_source_that_dies_while_it_takes_gives_back_when_it_is_there_again()
    {
        await using var run = await StartAsync(MigrationMode.PreCopy);
        while (_first.Orders.Count == 0)
            Assert.True(await run.Supervisor.StepAsync(), run.Story);
        run.Source.Kill();
        await run.EndAsync(Deadline);
        Assert.Equal("alpha", run.Observer.Running(Spec.Name).Single().Where);
        await CheckReturnedAsync(run, deaths: 1);
    }

    /// <summary>The order to give back must be in the device before the guest leaves: without it, it stays.</summary>
    [Fact]
    public async Task A_guest_that_cannot_be_told_its_size_is_not_handed_over()
    {
        await using var run = await StartAsync(MigrationMode.PreCopy);
        run.Network.Reached = _ =>
        {
            _first.Refuses = true;
            return Task.CompletedTask;
        };
        await run.EndAsync(Deadline);
        Assert.Equal("alpha", run.Observer.Running(Spec.Name).Single().Where);
        Assert.True(_first.Target < Full);
        _first.Refuses = false;
        await CheckReturnedAsync(run);
    }

    [Fact]
    public async Task A_size_cannot_be_set_by_hand_while_memory_is_lent()
    {
        await using var run = await StartAsync(MigrationMode.PreCopy);
        CommandResult? answer = null;
        run.Network.Reached = async at => answer ??= at == "round"
            ? await run.Source.SendAsync(new SetBalloon(new CommandHeader(new CommandId(Guid.NewGuid()), Spec.Name, new Epoch(1), new Epoch(1)), Full / 2))
            : null;
        await run.EndAsync(Deadline);
        Assert.Equal(ErrorCodes.Conflict, answer?.Error?.Code);
        await CheckReturnedAsync(run);
    }

    private async Task<SwitchOverRun> StartAsync(MigrationMode mode)
    {
        int report = 0;
        var run = await SwitchOverRun.StartAsync(
            Spec, mode, Path.Combine(_directory, Guid.NewGuid().ToString("N")),
            // Every look is news, and the guest gives no more than a part: nobody waits for the next report.
            balloons: _ => new FakeBalloon(Full, Full / 2, () => DateTimeOffset.FromUnixTimeSeconds(Interlocked.Increment(ref report))) { Least = Full - (32 * ByteSize.Mebi) });
        var balloon = run.Source.Machines.Machines.Single().Balloon!;
        await UntilAsync(() => balloon.Queries > 0, "the agent has looked at the guest");
        _first = balloon;
        return run;
    }

    private FakeBalloon _first = null!;

    private async Task CheckReturnedAsync(SwitchOverRun run, int deaths = 0)
    {
        run.CheckOneHome();
        Assert.Equal(deaths, run.Source.Deaths);
        Assert.True(_first.Orders.Any(bytes => bytes < Full), "The balloon was never used: the row proves nothing.");
        var home = run.Observer.Running(Spec.Name).Single();
        await UntilAsync(() => home.Balloon!.Target == Full, $"the guest on {home.Where} has its memory ({string.Join(' ', home.Balloon!.Orders)})");
    }

    private static Task UntilAsync(Func<bool> condition, string what) => Eventually.HoldsAsync(condition, () => what, Deadline);
}
