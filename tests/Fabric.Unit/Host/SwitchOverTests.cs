using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Machines;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>
/// Every crash point of the switch-over (docs/PROTOCOL.md §2), with real agents and ledgers, machines that outlive their agent, and the
/// real brain. How it proves its claim: an observer beside the hosts counts who runs at each change; after the faults every migration must
/// end, with the VM on exactly one host and no other machine left. The rows are made from the ledger's own record kinds: a new kind without a
/// row fails <see cref="Every_record_kind_has_a_row"/>.
/// </summary>
public sealed class SwitchOverTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = 64 * ByteSize.Mebi, Kernel = "/k", Accelerator = Accelerator.Tcg };

    private static readonly string[] SourceKinds = ["push-started", "handing-over", "token-sent", "handed-over", "drained", "released", "answered"];
    private static readonly string[] DestinationKinds = ["incoming", "machine-started", "accepted", "complete", "answered"];

    /// <summary>Written only on ways that other faults open; killed there by <see cref="The_way_back_survives_a_crash"/>.</summary>
    private static readonly string[] WayBackKinds = ["push-ended", "withdrawn", "taken-back", "refused", "lost"];

    /// <summary>Written only where a guest's balloon was used: <see cref="BalloonLoanTests"/>.</summary>
    private static readonly string[] BalloonKinds = ["memory-returned"];

    /// <summary>Nothing of the switch-over hangs on them.</summary>
    private static readonly string[] OtherKinds = ["shard-seen", "owned", "machine-gone", "deleted", "summary"];

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-switch-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    public static TheoryData<string, MigrationMode, FaultMoment, string> Crashes()
    {
        var rows = new TheoryData<string, MigrationMode, FaultMoment, string>();
        foreach (var mode in new[] { MigrationMode.PreCopy, MigrationMode.PostCopy, MigrationMode.Hybrid })
        {
            foreach (var moment in Enum.GetValues<FaultMoment>())
            {
                foreach (string kind in SourceKinds)
                    rows.Add("source", mode, moment, kind);
                foreach (string kind in DestinationKinds)
                    rows.Add("destination", mode, moment, kind);
            }
        }

        return rows;
    }

    [Fact]
    public void Every_record_kind_has_a_row() =>
        Assert.Empty(VmRecord.Kinds.Except(SourceKinds).Except(DestinationKinds).Except(WayBackKinds).Except(BalloonKinds).Except(OtherKinds));

    [Fact]
    public void The_observer_sees_two_runners()
    {
        var observer = new RunObserver();
        new FakeMachine(Spec, "alpha", MachineStatus.Running, observer).Boot();
        Assert.Empty(observer.Violations);
        new FakeMachine(Spec, "beta", MachineStatus.Running, observer).Boot();
        Assert.Single(observer.Violations);
    }

    [Theory]
    [InlineData(MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PostCopy)]
    [InlineData(MigrationMode.Hybrid)]
    public async Task Undisturbed_the_vm_moves(MigrationMode mode)
    {
        await using var run = await StartAsync(mode);
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Completed, run.Story);
        Assert.Equal("beta", Assert.Single(run.Observer.Running(Spec.Name)).Where);
        run.CheckOneHome();
    }

    [Theory]
    [MemberData(nameof(Crashes))]
    public async Task An_agent_that_dies_at_any_record_leaves_one_runner(string victim, MigrationMode mode, FaultMoment moment, string kind)
    {
        await using var run = await StartAsync(mode);
        var host = victim == "source" ? run.Source : run.Destination;
        host.DieAt = (moment, kind);
        await run.EndAsync(Deadline);
        Assert.True(host.Deaths == 1, $"No {kind} was ever written at the {victim} in a {mode} migration: the row proves nothing.");
        run.CheckOneHome();
    }

    [Theory]
    [MemberData(nameof(Crashes))]
    public async Task A_machine_that_dies_at_any_record_never_runs_twice(string victim, MigrationMode mode, FaultMoment moment, string kind)
    {
        await using var run = await StartAsync(mode);
        var host = victim == "source" ? run.Source : run.Destination;
        host.MachineDiesAt = (moment, kind);
        await run.EndAsync(Deadline);
        Assert.Empty(run.Observer.Violations);
        Assert.True(run.Observer.Running(Spec.Name).Count <= 1);
        Assert.IsAssignableFrom<TerminalState>(run.Supervisor.State);
    }

    [Theory]
    [InlineData(MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PostCopy)]
    public async Task A_supervisor_that_dies_at_any_event_is_followed_by_another(MigrationMode mode)
    {
        await using var run = await StartAsync(mode);
        run.Supervisor.Appended = _ => run.Supervisor.Restart();
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Completed, run.Story);
        run.CheckOneHome();
    }

    [Theory]
    [InlineData("round")]
    [InlineData("load")]
    [InlineData("ready")]
    [InlineData("token")]
    [InlineData("running")]
    [InlineData("pull")]
    public async Task A_link_that_breaks_at_any_step_leaves_one_runner(string point)
    {
        foreach (var mode in new[] { MigrationMode.PreCopy, MigrationMode.PostCopy, MigrationMode.Hybrid })
        {
            await using var run = await StartAsync(mode);
            bool broken = false;
            run.Network.Reached = at =>
            {
                if (at == point && !broken)
                {
                    broken = true;
                    run.Source.Blink();
                }

                return Task.CompletedTask;
            };
            await run.EndAsync(Deadline);
            run.CheckOneHome();
        }
    }

    /// <summary>First the destination dies, so that the way back is taken; then whoever writes the way back's record dies too.</summary>
    [Theory]
    [InlineData("handing-over", "withdrawn")]
    [InlineData("push-started", "push-ended")]
    [InlineData("token-sent", "taken-back")]
    public async Task The_way_back_survives_a_crash(string destinationDiesAtSource, string thenSourceDiesAt)
    {
        foreach (var moment in Enum.GetValues<FaultMoment>())
        {
            await using var run = await StartAsync(MigrationMode.PreCopy);
            run.Source.DieAt = (moment, thenSourceDiesAt);
            run.KillDestinationAfter(destinationDiesAtSource);
            await run.EndAsync(Deadline);
            run.CheckOneHome();
        }
    }

    [Fact]
    public async Task A_destination_that_dies_while_it_refuses_has_refused_or_refuses_again()
    {
        foreach (var moment in Enum.GetValues<FaultMoment>())
        {
            await using var run = await StartAsync(MigrationMode.PreCopy);
            run.Destination.DieAt = (moment, "refused");
            bool broken = false;
            run.Network.Reached = point =>
            {
                if (point == "round" && !broken)
                {
                    broken = true;
                    run.Source.Blink();
                }

                return Task.CompletedTask;
            };
            await run.EndAsync(Deadline);
            Assert.Equal("alpha", Assert.Single(run.Observer.Running(Spec.Name)).Where);
            run.CheckOneHome();
        }
    }

    private Task<SwitchOverRun> StartAsync(MigrationMode mode) => SwitchOverRun.StartAsync(Spec, mode, Path.Combine(_directory, Guid.NewGuid().ToString("N")));
}
