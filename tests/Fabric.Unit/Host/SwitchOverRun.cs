using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>One migration from alpha to beta under faults.</summary>
internal sealed class SwitchOverRun : IAsyncDisposable
{
    private readonly VmSpec _spec;

    private SwitchOverRun(VmSpec spec, string directory)
    {
        _spec = spec;
        Source = new TestHost(HostName.Parse("alpha"), Network, Observer, directory);
        Destination = new TestHost(HostName.Parse("beta"), Network, Observer, directory);
    }

    internal MemoryNetwork Network { get; } = new();

    internal RunObserver Observer { get; } = new();

    internal TestHost Source { get; }

    internal TestHost Destination { get; }

    internal MiniSupervisor Supervisor { get; private set; } = null!;

    /// <summary>What was decided, for a failure's message.</summary>
    internal string Story => string.Join('\n', Supervisor.Journal.Skip(1));

    internal static async Task<SwitchOverRun> StartAsync(VmSpec spec, MigrationMode mode, string directory, PageOrder order = PageOrder.DualMulti, int pivots = 7, Func<VmSpec, FakeBalloon>? balloons = null, BalloonUse use = BalloonUse.Auto)
    {
        Directory.CreateDirectory(directory);
        var run = new SwitchOverRun(spec, directory);
        if (balloons is not null)
            run.Source.Machines.NewBalloon = run.Destination.Machines.NewBalloon = balloons;
        await run.Source.StartAsync();
        await run.Destination.StartAsync();
        var created = await run.Source.SendAsync(new CreateVm(new CommandHeader(new CommandId(Guid.NewGuid()), spec.Name, new Epoch(1), new Epoch(1)), spec));
        Assert.Null(created!.Error);
        var options = new MigrationOptions { Mode = mode, Order = order, Pivots = pivots, Balloon = balloons is null ? BalloonUse.Off : use };
        var plan = new MigrationPlan(
            new MigrationId(Guid.NewGuid()), spec, run.Source.Name, run.Destination.Name, options, new Epoch(1), new Epoch(2), new Ticket(new string('a', 64)), TimeProvider.System.GetUtcNow());
        run.Supervisor = new MiniSupervisor(plan, run.Source, run.Destination);
        return run;
    }

    internal void KillDestinationAfter(string sourceRecord)
    {
        string point = sourceRecord switch
        {
            "push-started" => "round",
            "handing-over" => "load",
            _ => "token",
        };
        bool killed = false;
        Network.Reached = at =>
        {
            if (at == point && !killed)
            {
                killed = true;
                Destination.Kill();
            }

            return Task.CompletedTask;
        };
    }

    /// <summary>Steps until the migration is over; a host that died is started again after a few looks at its silence.</summary>
    internal async Task EndAsync(TimeSpan deadline)
    {
        long began = TimeProvider.System.GetTimestamp();
        int silentSteps = 0;
        while (await Supervisor.StepAsync())
        {
            if (TimeProvider.System.GetElapsedTime(began) > deadline)
                Assert.Fail($"The migration did not end: {Supervisor.State.Name} after {string.Join(", ", Supervisor.Journal.Select(e => e.GetType().Name))}; {await DescribeAsync()}");
            silentSteps = Source.Alive && Destination.Alive ? 0 : silentSteps + 1;
            if (silentSteps > 10)
                await StartTheDeadAsync();
            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System);
        }

        await StartTheDeadAsync();
        await SettleAsync(deadline);
    }

    /// <summary>The VM runs on exactly one host, by whatever way the migration ended, and no other machine is left.</summary>
    internal void CheckOneHome()
    {
        Assert.Empty(Observer.Violations);
        var home = Assert.Single(Observer.Running(_spec.Name));
        string expected = Supervisor.State is Completed ? "beta" : "alpha";
        Assert.True(home.Where == expected, $"{Supervisor.State.Name}: runs on {home.Where}");
        Assert.Same(home, Assert.Single(Source.Machines.Machines.Concat(Destination.Machines.Machines)));
    }

    public async ValueTask DisposeAsync()
    {
        await Source.DisposeAsync();
        await Destination.DisposeAsync();
    }

    private async Task StartTheDeadAsync()
    {
        if (!Source.Alive)
            await Source.StartAsync();
        if (!Destination.Alive)
            await Destination.StartAsync();
    }

    /// <summary>Restarted agents adopt and tidy up by themselves; waits until what they say is at rest.</summary>
    private async Task SettleAsync(TimeSpan deadline)
    {
        long began = TimeProvider.System.GetTimestamp();
        while (TimeProvider.System.GetElapsedTime(began) < deadline)
        {
            var machines = Source.Machines.Machines.Concat(Destination.Machines.Machines).ToList();
            if (machines.Count == 1 && Observer.Running(_spec.Name).Count == 1)
                return;
            if (Supervisor.State is Lost && Observer.Running(_spec.Name).Count == 0)
                return;
            if (machines.Count == 0)
                return;
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }

    private async Task<string> DescribeAsync()
    {
        var source = await Source.FactsAsync();
        var destination = await Destination.FactsAsync();
        return $"source {string.Join(" ", source?.Vms ?? [])}; destination {string.Join(" ", destination?.Vms ?? [])}";
    }
}
