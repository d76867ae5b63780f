using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Machines;

namespace Fabric.Unit.Host;

/// <summary>
/// Watches from outside who runs: a VM that runs in two places at once is a violation, whatever any ledger says. The one checker that
/// every crash test relies on; <see cref="SwitchOverTests.The_observer_sees_two_runners"/> shows that it can fail.
/// </summary>
internal sealed class RunObserver
{
    private readonly Lock _lock = new();
    private readonly Dictionary<VmName, HashSet<FakeMachine>> _running = [];
    private readonly List<string> _violations = [];

    internal IReadOnlyList<string> Violations
    {
        get
        {
            lock (_lock)
                return [.. _violations];
        }
    }

    internal IReadOnlyList<FakeMachine> Running(VmName vm)
    {
        lock (_lock)
            return _running.TryGetValue(vm, out var set) ? [.. set] : [];
    }

    internal void Complain(string violation)
    {
        lock (_lock)
            _violations.Add(violation);
    }

    internal void Changed(FakeMachine machine, bool runs)
    {
        lock (_lock)
        {
            if (!_running.TryGetValue(machine.Spec.Name, out var set))
                _running[machine.Spec.Name] = set = [];
            if (runs)
                set.Add(machine);
            else
                set.Remove(machine);
            if (set.Count > 1)
                _violations.Add($"{machine.Spec.Name} runs on {string.Join(" and ", set.Select(m => m.Where))}");
        }
    }
}

/// <summary>A machine that outlives its agent, like a QEMU process: only its run state is real.</summary>
internal sealed class FakeMachine(VmSpec spec, string where, MachineStatus status, RunObserver observer)
{
    private readonly TaskCompletionSource<string> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _announcements;

    internal VmSpec Spec { get; } = spec;

    internal string Where { get; } = where;

    internal string Record { get; } = Guid.NewGuid().ToString("N");

    internal MachineStatus Status { get; private set; } = status;

    internal Task<string> Exited => _exited.Task;

    /// <summary>Null for a machine without the device.</summary>
    internal FakeBalloon? Balloon { get; init; }

    /// <summary>How often the network was told that it is here, while it ran.</summary>
    internal int Announcements => Volatile.Read(ref _announcements);

    internal void Announce()
    {
        if (Status != MachineStatus.Running)
            observer.Complain($"{Spec.Name} was announced at {Where} while it was {Status}");
        Interlocked.Increment(ref _announcements);
    }

    internal void Become(MachineStatus next)
    {
        if (Status == MachineStatus.Exited)
            throw new FabricException(ErrorCodes.MachineFailed, "The machine is gone.");
        Status = next;
        observer.Changed(this, next == MachineStatus.Running);
        if (next == MachineStatus.Exited)
            _exited.TrySetResult("it was ended");
    }

    internal void Boot() => observer.Changed(this, Status == MachineStatus.Running);
}

/// <summary>One host's machines. After <see cref="Cut"/> the handles that the old agent holds do nothing any more, as if its process were gone.</summary>
internal sealed class FakeFactory(string host, RunObserver observer) : IMachineFactory
{
    private readonly ConcurrentDictionary<string, FakeMachine> _machines = new();
    private AgentLife _life = new();

    public MachineKind Kind => MachineKind.Qemu;

    internal IEnumerable<FakeMachine> Machines => _machines.Values.Where(m => m.Status != MachineStatus.Exited);

    /// <summary>The agent process dies: whatever it still tries goes nowhere.</summary>
    internal void Cut()
    {
        _life.Dead = true;
        _life = new AgentLife();
    }

    public ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation) => ValueTask.FromResult(Create(spec, birth));

    internal IMachine Create(VmSpec spec, MachineBirth birth)
    {
        _life.Check();
        var machine = new FakeMachine(spec, host, birth == MachineBirth.Boot ? MachineStatus.Running : MachineStatus.AwaitingState, observer) { Balloon = NewBalloon(spec) };
        _machines[machine.Record] = machine;
        machine.Boot();
        return new Handle(machine, _life);
    }

    /// <summary>Of the machines that are made from now on.</summary>
    internal Func<VmSpec, FakeBalloon?> NewBalloon { get; set; } = static _ => null;

    /// <summary>A machine may be slow to answer its new agent, or not answer yet.</summary>
    internal Func<Task> BeforeAdopt { get; set; } = static () => Task.CompletedTask;

    public async ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation)
    {
        await BeforeAdopt();
        return _machines.TryGetValue(adoptionRecord, out var machine) && machine.Status != MachineStatus.Exited ? new Handle(machine, _life) : null;
    }

    public ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation)
    {
        foreach (var machine in _machines.Values.Where(m => m.Status != MachineStatus.Exited && !adoptionRecords.Contains(m.Record)))
            machine.Become(MachineStatus.Exited);
        return ValueTask.CompletedTask;
    }

    internal sealed class AgentLife
    {
        internal volatile bool Dead;

        internal void Check()
        {
            if (Dead)
                throw new FabricException(ErrorCodes.Unreachable, "This agent's process is gone.");
        }
    }

    private sealed class Handle(FakeMachine machine, AgentLife life) : IMachine
    {
        public VmSpec Spec => machine.Spec;

        public IGuestMemory Memory { get; } = new FakeMemory(machine.Spec.PageCount);

        public IBalloon? Balloon { get; } = machine.Balloon is { } balloon ? new BalloonHandle(balloon, life) : null;

        public string AdoptionRecord => machine.Record;

        public int? ProcessId => null;

        public ValueTask AnnounceAsync(CancellationToken cancellation)
        {
            life.Check();
            machine.Announce();
            return ValueTask.CompletedTask;
        }

        public Task<string> Exited => machine.Exited;

        public string ConsoleLog => "/nonexistent";

        public ValueTask<MachineStatus> QueryStatusAsync(CancellationToken cancellation)
        {
            life.Check();
            return ValueTask.FromResult(machine.Status);
        }

        public ValueTask StopAsync(CancellationToken cancellation) => Do(MachineStatus.Paused);

        public ValueTask ContinueAsync(CancellationToken cancellation)
        {
            if (machine.Status == MachineStatus.AwaitingState)
                throw new FabricException(ErrorCodes.MachineFailed, "It has no state to continue from.");
            return Do(MachineStatus.Running);
        }

        public ValueTask<byte[]> SaveDeviceStateAsync(bool releaseDisks, CancellationToken cancellation)
        {
            life.Check();
            return ValueTask.FromResult(machine.Balloon?.Save() ?? "state"u8.ToArray());
        }

        public ValueTask LoadDeviceStateAsync(ReadOnlyMemory<byte> state, CancellationToken cancellation)
        {
            machine.Balloon?.Load(state.Span);
            return Do(MachineStatus.Paused);
        }

        public ValueTask ReclaimDisksAsync(CancellationToken cancellation)
        {
            life.Check();
            return ValueTask.CompletedTask;
        }

        public ValueTask KillAsync(CancellationToken cancellation) => machine.Status == MachineStatus.Exited ? ValueTask.CompletedTask : Do(MachineStatus.Exited);

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;

        private ValueTask Do(MachineStatus next)
        {
            life.Check();
            machine.Become(next);
            return ValueTask.CompletedTask;
        }
    }

    /// <summary>An agent that is dead orders nothing any more.</summary>
    private sealed class BalloonHandle(FakeBalloon balloon, AgentLife life) : IBalloon
    {
        public ValueTask<long> QueryActualAsync(CancellationToken cancellation) => Alive().QueryActualAsync(cancellation);

        public ValueTask SetTargetAsync(long bytes, CancellationToken cancellation) => Alive().SetTargetAsync(bytes, cancellation);

        public ValueTask<BalloonStatistics?> QueryStatisticsAsync(CancellationToken cancellation) => Alive().QueryStatisticsAsync(cancellation);

        public ValueTask<bool> QueryDeflatesOnOomAsync(CancellationToken cancellation) => Alive().QueryDeflatesOnOomAsync(cancellation);

        private FakeBalloon Alive()
        {
            life.Check();
            return balloon;
        }
    }

    private sealed class FakeMemory(long pages) : IGuestMemory
    {
        public int PageSize => VmSpec.PageSize;

        public long PageCount => pages;

        public nint Address => 0;

        public IDisposable Pin() => new CancellationTokenSource();

        public void ReadPresence(PageBitmap present) => present.Clear();

        public IDirtyTracking StartDirtyTracking() => new DirtyTracking(static (_, _, _) => 0, static _ => { });

        public void StopDirtyTracking()
        {
        }

        public void Discard(PageRun run)
        {
        }

        public IMissingPageTrap TrapMissing() => throw new NotSupportedException();
    }
}
