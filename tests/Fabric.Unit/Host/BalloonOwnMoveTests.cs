using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>
/// A VM with a balloon loop of its own is moved, or its agent dies: real agents and ledgers, machines with a balloon whose target outlives the agent and travels in the device state. Proven by
/// the target of the machine that runs in the end, which nobody has made larger, and by what becomes of it when the guest needs its memory there: only a loop that goes on gives it back.
/// </summary>
public sealed class BalloonOwnMoveTests : IDisposable
{
    private const long Full = 256 * ByteSize.Mebi;
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);
    private static readonly VmSpec Spec = new()
    {
        Name = VmName.Parse("web"),
        MemoryBytes = Full,
        Kernel = "/k",
        Accelerator = Accelerator.Tcg,
        Balloon = new BalloonSpec(BalloonSpec.LeastIntervalMs),
    };

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-own-").FullName;
    private int _report;
    private FakeBalloon _first = null!;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(MigrationMode.PreCopy, BalloonUse.Off)]
    [InlineData(MigrationMode.PreCopy, BalloonUse.Auto)]
    [InlineData(MigrationMode.PostCopy, BalloonUse.Off)]
    [InlineData(MigrationMode.PostCopy, BalloonUse.Auto)]
    public async Task A_guest_moves_with_its_balloon(MigrationMode mode, BalloonUse use)
    {
        await using var run = await StartAsync(mode, use);
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Completed, run.Story);
        await CheckLoopGoesOnAsync(run);
    }

    [Theory]
    [InlineData(FaultMoment.Before, "push-ended", BalloonUse.Off)]
    [InlineData(FaultMoment.After, "push-ended", BalloonUse.Auto)]
    public async Task A_guest_that_stays_keeps_its_balloon_over_a_crash(FaultMoment moment, string kind, BalloonUse use)
    {
        await using var run = await StartAsync(MigrationMode.PreCopy, use);
        run.Source.DieAt = (moment, kind);
        run.KillDestinationAfter("push-started");
        await run.EndAsync(Deadline);
        Assert.Equal(1, run.Source.Deaths);
        await CheckLoopGoesOnAsync(run);
    }

    [Theory]
    [InlineData(FaultMoment.After, "handing-over")]
    [InlineData(FaultMoment.After, "token-sent")]
    [InlineData(FaultMoment.After, "handed-over")]
    public async Task A_source_that_dies_on_the_way_ends_no_loop(FaultMoment moment, string kind)
    {
        await using var run = await StartAsync(MigrationMode.PostCopy, BalloonUse.Off);
        run.Source.DieAt = (moment, kind);
        await run.EndAsync(Deadline);
        Assert.Equal(1, run.Source.Deaths);
        await CheckLoopGoesOnAsync(run);
    }

    /// <summary>What becomes free while memory is pushed is left: three looks at it bring no order.</summary>
    [Fact]
    public async Task Nothing_is_taken_while_memory_is_moved()
    {
        await using var run = await StartAsync(MigrationMode.PreCopy, BalloonUse.Off);
        int? more = null;
        run.Network.Reached = async at =>
        {
            if (at != "round" || more is not null)
                return;
            _first.WouldBeFree = Full * 3 / 4;
            var (orders, looks) = (_first.Orders.Count, _first.Queries);
            await UntilAsync(() => _first.Queries >= looks + 3, "the guest was looked at again");
            more = _first.Orders.Count - orders;
        };
        await run.EndAsync(Deadline);
        Assert.Equal(0, more);
    }

    [Fact]
    public async Task A_size_cannot_be_set_by_hand()
    {
        await using var run = await StartAsync(MigrationMode.PreCopy, BalloonUse.Off);
        var answer = await run.Source.SendAsync(new SetBalloon(new CommandHeader(new CommandId(Guid.NewGuid()), Spec.Name, new Epoch(1), new Epoch(1)), Full / 2));
        Assert.Equal(ErrorCodes.Conflict, answer?.Error?.Code);
        await run.EndAsync(Deadline);
    }

    private async Task<SwitchOverRun> StartAsync(MigrationMode mode, BalloonUse use)
    {
        var run = await SwitchOverRun.StartAsync(
            Spec, mode, Path.Combine(_directory, Guid.NewGuid().ToString("N")),
            balloons: _ => new FakeBalloon(Full, Full / 2, () => DateTimeOffset.FromUnixTimeSeconds(Interlocked.Increment(ref _report))), use: use);
        _first = run.Source.Machines.Machines.Single().Balloon!;
        await UntilAsync(() => _first.Actual < Full * 5 / 8, "the loop has taken what is free");
        return run;
    }

    private async Task CheckLoopGoesOnAsync(SwitchOverRun run)
    {
        run.CheckOneHome();
        var home = run.Observer.Running(Spec.Name).Single();
        Assert.DoesNotContain(Full, _first.Orders.Concat(home.Balloon!.Orders));
        Assert.True(home.Balloon.Target < Full * 5 / 8, $"{home.Balloon.Target}");
        home.Balloon.WouldBeFree = Full - home.Balloon.Actual;
        await UntilAsync(() => home.Balloon.Target == Full, $"the loop on {home.Where} gives back ({string.Join(' ', home.Balloon.Orders)})");
    }

    private static Task UntilAsync(Func<bool> condition, string what) => Eventually.HoldsAsync(condition, () => what, Deadline);
}
