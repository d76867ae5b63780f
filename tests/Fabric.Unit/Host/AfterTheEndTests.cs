using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>
/// What is left of a migration on the hosts when it is over or stands, with real agents and ledgers: a lost VM is deleted by one command that names the migration and by
/// nothing less; a stream that breaks while nothing is under way on it is said; a restarted agent says nothing before it has its VMs back.
/// </summary>
public sealed class AfterTheEndTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = 64 * ByteSize.Mebi, Kernel = "/k", Accelerator = Accelerator.Tcg };

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-end-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_lost_vm_goes_with_the_command_that_names_its_migration_and_with_no_other()
    {
        await using var run = await LoseAsync();
        var lost = run.Supervisor.State is Lost end ? end.Plan.Id : throw new InvalidOperationException(run.Story);
        foreach (var other in new MigrationId?[] { null, new MigrationId(Guid.NewGuid()) })
            Assert.Equal(ErrorCodes.Conflict, (await DeleteAsync(run.Source, other))!.Error!.Code);
        Assert.Single(run.Source.Machines.Machines); // the last copy stands until somebody says so
        Assert.Empty(run.Observer.Running(Spec.Name));
        Assert.Null((await DeleteAsync(run.Source, lost))!.Error);
        Assert.Null((await DeleteAsync(run.Destination, lost))!.Error);
        await CheckNothingIsLeftAsync(run);
    }

    [Theory]
    [InlineData(FaultMoment.Before, "released")]
    [InlineData(FaultMoment.After, "released")]
    [InlineData(FaultMoment.After, "deleted")]
    public async Task A_source_that_dies_while_it_deletes_a_lost_vm_never_runs_it(FaultMoment moment, string kind)
    {
        await using var run = await LoseAsync();
        var lost = ((Lost)run.Supervisor.State).Plan.Id;
        run.Source.DieAt = (moment, kind);
        await DeleteAsync(run.Source, lost);
        Assert.Equal(1, run.Source.Deaths);
        await run.Source.StartAsync();
        Assert.Empty(run.Observer.Running(Spec.Name));
        Assert.Null((await DeleteAsync(run.Source, lost))!.Error);
        Assert.Null((await DeleteAsync(run.Destination, lost))!.Error);
        await CheckNothingIsLeftAsync(run);
    }

    [Fact]
    public async Task A_vm_that_runs_at_its_new_home_is_not_deleted_by_the_epoch_of_its_old_one()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PreCopy, NewDirectory());
        await run.EndAsync(Deadline);
        var id = new CommandId(Guid.NewGuid());
        var refused = await run.Destination.SendAsync(new DeleteVm(new CommandHeader(id, Spec.Name, new Epoch(1), new Epoch(1))));
        Assert.Equal(ErrorCodes.RefusedByEpoch, refused!.Error!.Code);
        run.CheckOneHome();
    }

    /// <summary>Post-copy waits with a quiet stream, hybrid with one on which no round runs any more.</summary>
    [Theory]
    [InlineData(MigrationMode.PostCopy)]
    [InlineData(MigrationMode.Hybrid)]
    [InlineData(MigrationMode.PreCopy)]
    public async Task A_converged_push_whose_stream_breaks_is_said_to_have_failed(MigrationMode mode)
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, mode, NewDirectory());
        await UntilAsync(run, SourcePhase.Converged, step: true);
        run.Source.Blink();
        await UntilAsync(run, SourcePhase.PushFailed, step: false);
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Failed, run.Story);
        run.CheckOneHome();
    }

    /// <summary>The link breaks when the VM runs at the destination and has all it needs: no stream will come any more that would end the door and its map.</summary>
    [Fact]
    public async Task A_stream_that_breaks_on_its_last_word_leaves_no_map()
    {
        string directory = NewDirectory();
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PreCopy, directory);
        string map = Path.Combine(directory, $"{run.Supervisor.Plan.Id}.pull");
        await File.WriteAllTextAsync(map, "");
        run.Network.Reached = point =>
        {
            if (point == "running")
                run.Source.Blink();
            return Task.CompletedTask;
        };
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Completed, run.Story);
        long began = TimeProvider.System.GetTimestamp();
        while (File.Exists(map))
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < Deadline, "The map is left.");
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }

    /// <summary>Closing takes longer than the period of progress reports, and the broken stream carried bytes: it must not be taken for one that goes on.</summary>
    [Fact]
    public async Task A_pull_whose_broken_stream_closes_slowly_is_resumed()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PostCopy, NewDirectory());
        run.Network.WhileClosing = () => Task.Delay(TimeSpan.FromMilliseconds(400), TimeProvider.System);
        bool broken = false;
        run.Network.Reached = point =>
        {
            if (point == "pull" && !broken)
            {
                broken = true;
                run.Source.Blink();
            }

            return Task.CompletedTask;
        };
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Completed, run.Story);
        run.CheckOneHome();
    }

    [Fact]
    public async Task A_restarted_agent_says_nothing_before_it_has_its_vms_back()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PreCopy, NewDirectory());
        run.Source.Kill();
        run.Source.Machines.BeforeAdopt = () => Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        await run.Source.StartAsync();
        var fact = Assert.Single((await run.Source.FactsAsync())!.Vms);
        Assert.Equal((true, VmRunState.Running), (fact.Owner, fact.State));
    }

    /// <summary>A pull waits at the destination; its source restarts and its machine does not answer at once.</summary>
    [Fact]
    public async Task A_machine_that_cannot_be_adopted_yet_is_not_called_gone()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PreCopy, NewDirectory());
        run.Source.Kill();
        int tries = 0;
        run.Source.Machines.BeforeAdopt = () => ++tries == 1 ? throw new FabricException(ErrorCodes.MachineFailed, "busy") : Task.CompletedTask;
        await run.Source.StartAsync();
        var fact = Assert.Single((await run.Source.FactsAsync())!.Vms);
        Assert.Equal((true, VmRunState.Paused), (fact.Owner, fact.State));
        long began = TimeProvider.System.GetTimestamp();
        while (Assert.Single((await run.Source.FactsAsync())!.Vms) is not { State: VmRunState.Running, Note: null })
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < Deadline, "It is never adopted.");
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }
    }

    /// <summary>A post-copy migration whose destination's machine dies with the token: the source's frozen copy is all that is left.</summary>
    private async Task<SwitchOverRun> LoseAsync()
    {
        var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PostCopy, NewDirectory());
        run.Destination.MachineDiesAt = (FaultMoment.After, "accepted");
        await run.EndAsync(Deadline);
        Assert.True(run.Supervisor.State is Lost, run.Story);
        return run;
    }

    private static Task<CommandResult?> DeleteAsync(TestHost host, MigrationId? lost) =>
        host.SendAsync(new DeleteVm(new CommandHeader(new CommandId(Guid.NewGuid()), Spec.Name, new Epoch(1), new Epoch(2), lost)));

    /// <summary>Nor does anything come back with the next lives of the agents.</summary>
    private static async Task CheckNothingIsLeftAsync(SwitchOverRun run)
    {
        foreach (var host in new[] { run.Source, run.Destination })
        {
            Assert.Empty(host.Machines.Machines);
            host.Kill();
            await host.StartAsync();
            Assert.Empty((await host.FactsAsync())!.Vms);
            Assert.Empty(host.Machines.Machines);
        }

        Assert.Empty(run.Observer.Violations);
    }

    private static async Task UntilAsync(SwitchOverRun run, SourcePhase phase, bool step)
    {
        long began = TimeProvider.System.GetTimestamp();
        while ((await run.Source.FactsAsync())!.Vms.Single().Outgoing?.Phase != phase)
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < Deadline, $"The source never says {phase}.");
            if (step)
                await run.Supervisor.StepAsync();
            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System);
        }
    }

    private string NewDirectory() => Path.Combine(_directory, Guid.NewGuid().ToString("N"));
}
