using System.Globalization;
using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Simulation.Checks;
using Fabric.Simulation.Network;
using Fabric.Simulation.Plants;
using Fabric.Simulation.Stores;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Fabric.Simulation.Worlds;

/// <summary>How a run ended. <paramref name="Violation"/>: null when every invariant held.</summary>
internal sealed record Verdict(int Seed, string? Violation, ulong Fingerprint, TimeSpan VirtualTime, int Migrations, int Completed);

/// <summary>Hosts, control nodes, network and store on one thread and one clock, from one seed. Made, run once, thrown away.</summary>
internal sealed class World
{
    internal const long VmBytes = ByteSize.Mebi;

    /// <summary>Longest that a guest may stand while nothing is wrong: longer than every deadline that may have to pass before somebody asks.</summary>
    internal static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(45);

    /// <summary>After the faults stop everything ends within this.</summary>
    private static readonly TimeSpan HealBound = TimeSpan.FromSeconds(300);
    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(1);

    /// <summary>All must be in order for so long, so that a late step of a bug is still seen.</summary>
    private const int SettledTicks = 17;

    /// <summary>Turns and timers within one tick: more is a circle.</summary>
    private const int MostSteps = 50_000;

    private readonly Action<string>? _trace;
    private readonly Operator _operator;
    private readonly Breaker _breaker;
    private readonly ILoggerFactory _loggers;
    private TimeSpan _troubledUntil;
    private int _numbers;

    /// <param name="plan">What happens.</param>
    /// <param name="plant">A bug of <see cref="PlantedBugs.All"/>, or null.</param>
    /// <param name="trace">Hears every line at once; null: nobody does.</param>
    internal World(Plan plan, string? plant = null, Action<string>? trace = null)
    {
        (Plan, _trace) = (plan, trace);
        _loggers = trace is null ? NullLoggerFactory.Instance : new TraceLoggers(this);
        Clock = new ManualTime();
        Loop = new DeterministicDispatcher(plan.Seed, Clock) { MaxSteps = MostSteps };
        Chance = new Chance(plan.Seed ^ 0x5eed);
        Tickets = Chance.NewRandom();
        Plants = new PlantedBugs(plant);
        Observer = new Observer(this);
        Links = new Links(this);
        StoreClock = new ManualTimeView(Clock);
        Store = new MemoryStore(StoreClock)
        {
            Committed = Observer.Journal.Committed,
            Acquired = Observer.Journal.Acquired,
            ViewChanged = Observer.Members.Changed,
            Forgets = Plants.On,
        };
        for (int i = 0; i < plan.Hosts; i++)
            Hosts.Add(new SimHost(this, HostName.Parse($"host-{i}"), 1000 + i, 3 * VmBytes));
        for (int i = 0; i < plan.Nodes; i++)
            Nodes.Add(new SimNode(this, $"node-{i}"));
        (_operator, _breaker) = (new Operator(this), new Breaker(this));
    }

    /// <summary>The agents make this directory and look for files in it; nothing is ever put there.</summary>
    internal static string MemoryDirectory => Path.Combine(Path.GetTempPath(), "fabric-simulation");

    internal Plan Plan { get; }

    internal ManualTime Clock { get; }

    internal ManualTimeView StoreClock { get; }

    internal DeterministicDispatcher Loop { get; }

    internal Chance Chance { get; }

    internal Random Tickets { get; }

    internal PlantedBugs Plants { get; }

    internal Observer Observer { get; }

    internal Links Links { get; }

    internal MemoryStore Store { get; }

    internal StoreTroubles Troubles { get; } = new();

    /// <summary>World time until which some node had trouble with the store.</summary>
    internal TimeSpan StoreTroubledUntil { get; set; }

    internal List<SimHost> Hosts { get; } = [];

    internal List<SimNode> Nodes { get; } = [];

    internal TimeSpan Now => Clock.Elapsed;

    internal Verdict Run()
    {
        var outer = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(null);
        try
        {
            Live();
        }
        catch (Exception e) when (e is InvalidOperationException or TimeoutException or FabricException)
        {
            Observer.Violated("crash", e.ToString());
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(outer);
        }

        var migrations = Observer.Journal.Migrations.Values;
        return new Verdict(
            Plan.Seed, Observer.Violation, Loop.Fingerprint, Now, migrations.Count(), migrations.Count(static m => m is Migration.Completed));
    }

    private void Live()
    {
        foreach (var node in Nodes.Where((_, i) => !Plan.Schedule.Any(e => e.Deed == Deed.StartNode && e.A == i)))
            After(Chance.Milliseconds(0, 1500), node.Start);
        foreach (var host in Hosts)
            After(Chance.Milliseconds(0, 1500), host.StartAgent);
        foreach (var entry in Plan.Schedule)
            After(entry.At, () => Do(entry));
        while (Now < Plan.Duration && Pass())
        {
        }

        if (Observer.Violation is not null)
            return;
        Trace("the faults stop");
        _breaker.Heal();
        var healed = Now;
        int settled = 0;
        var check = new EndCheck(this);
        long written = 0;
        while (settled < SettledTicks && Now - healed < HealBound && Pass())
        {
            // A request that was asked again and again may still be granted, and be over within a tick.
            settled = check.Unfinished() is null && Observer.Journal.Written == written ? settled + 1 : 0;
            written = Observer.Journal.Written;
        }

        if (Observer.Violation is null && check.Unfinished() is { } unfinished)
            Observer.Violated("I8", $"{HealBound.TotalSeconds:0} s after the faults stopped {unfinished}");
        if (Observer.Violation is null)
            check.Compare();
    }

    /// <summary>False once something was violated.</summary>
    private bool Pass()
    {
        var end = Now + Tick;
        int fired = 0;
        do
            Loop.RunUntilIdle();
        while (Clock.FireNext(end) && ++fired < MostSteps);
        if (fired == MostSteps)
            throw new InvalidOperationException($"More than {MostSteps} timers fired within {Tick}.");
        Clock.Advance(end - Now);
        Observer.Tick(Tick, quiet: Now > _troubledUntil);
        return Observer.Violation is null;
    }

    private void Do(Entry entry)
    {
        Trace($"--- {entry}");
        if (!entry.IsFault)
        {
            _operator.Do(entry);
            return;
        }

        // What a fault leaves behind (a dead agent that comes back, a deadline that runs) is not quiet yet.
        Trouble(entry.For + TimeSpan.FromSeconds(20));
        _breaker.Do(entry);
    }

    internal void Trouble(TimeSpan forTime) => _troubledUntil = Now + forTime > _troubledUntil ? Now + forTime : _troubledUntil;

    internal int NextNumber() => ++_numbers;

    internal SimHost Host(HostName name) => Hosts.Find(h => h.Name == name) ?? throw new InvalidOperationException($"There is no host {name}.");

    internal SimNode NodeAt(int number) => Nodes[number % Nodes.Count];

    internal SimNode Node(Member member) => Nodes.Find(n => n.Name == member.Name) ?? throw new InvalidOperationException($"There is no node {member.Name}.");

    internal SimHost HostAt(int port) => Hosts.Find(h => h.Port == port) ?? throw new InvalidOperationException($"Nobody is at {port}.");

    /// <summary>The world itself does something later; belongs to no process, so nothing stops it but its result.</summary>
    internal ITimer After(TimeSpan delay, Action action) => Clock.CreateTimer(static state => ((Action)state!)(), action, delay, Timeout.InfiniteTimeSpan);

    /// <summary>Completes in the context of whoever awaits it.</summary>
    internal Task DelayAsync(TimeSpan delay) => Task.Delay(delay, Clock);

    internal void Try(Action action)
    {
        try
        {
            action();
        }
        catch (FabricException e)
        {
            Trace($"it failed: {e.Message}");
        }
    }

    internal ILoggerFactory Loggers(string process) => _trace is null ? _loggers : new TraceLoggers(this, process);

    internal void Trace(string line)
    {
        _trace?.Invoke(string.Create(CultureInfo.InvariantCulture, $"{Now.TotalSeconds,9:0.0000} {line}"));
    }
}
