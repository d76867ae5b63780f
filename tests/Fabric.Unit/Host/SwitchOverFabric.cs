using Fabric.Actors;
using Fabric.Core;
using Fabric.Host;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Microsoft.Extensions.Logging.Abstractions;

namespace Fabric.Unit.Host;

/// <summary>Relative to a ledger record: it has not been written, or it is durable and nothing after it has happened.</summary>
public enum FaultMoment
{
    Before,
    After,
}

/// <summary>One host of the test: what outlives the agent (ledgers on disk, machines) and the agent that may die.</summary>
internal sealed class TestHost(HostName name, MemoryNetwork network, RunObserver observer, string directory) : IAsyncDisposable
{
    private readonly FakeFactory _factory = new(name.Value, observer);
    private MemoryNetwork.MemoryPlane? _plane;
    private HostAgent? _agent;
    private KillableLedgers? _ledgers;

    internal HostName Name => name;

    internal bool Alive => _agent is not null;

    internal FakeFactory Machines => _factory;

    /// <summary>Dies when a record of this kind is appended; once.</summary>
    internal (FaultMoment Moment, string Kind)? DieAt { get; set; }

    /// <summary>Or its machine does.</summary>
    internal (FaultMoment Moment, string Kind)? MachineDiesAt { get; set; }

    /// <summary>For guests; null: as many as come.</summary>
    internal long? MemoryBytes { get; init; }

    internal int Deaths { get; private set; }

    internal async Task StartAsync()
    {
        _plane = network.NewPlane();
        _ledgers = new KillableLedgers(new LedgerDirectory(Path.Combine(directory, name.Value)), OnAppend);
        var options = new HostAgentOptions { Name = name, MemoryDirectory = directory, MemoryBytes = MemoryBytes };
        _agent = await HostAgent.StartAsync(options, new HostAgentSeams(
            _ledgers, _plane, [_factory], TimeProvider.System, () => new Random(1), new ThreadPoolDispatcher(), NullLoggerFactory.Instance), CancellationToken.None);
    }

    /// <summary>kill -9: from now on the old agent can write, say and do nothing; its machines live.</summary>
    internal void Kill()
    {
        Deaths++;
        _ledgers!.Dead = true;
        _factory.Cut();
        _plane!.Cut();
        var old = _agent!;
        _agent = null;
        _ = Task.Run(async () => await old.DisposeAsync());
    }

    internal void Blink() => _plane!.Blink();

    internal async Task<HostFacts?> FactsAsync() => _agent is { } agent ? await agent.FactsAsync(0, TimeSpan.Zero, CancellationToken.None) : null;

    internal async Task<CommandResult?> SendAsync(AgentCommand command) => _agent is { } agent ? await agent.ExecuteAsync(command, CancellationToken.None) : null;

    public async ValueTask DisposeAsync()
    {
        if (_agent is { } agent)
            await agent.DisposeAsync();
    }

    private void OnAppend(FaultMoment moment, string kind)
    {
        if (DieAt == (moment, kind))
        {
            DieAt = null;
            Kill();
        }

        if (MachineDiesAt == (moment, kind))
        {
            MachineDiesAt = null;
            foreach (var machine in _factory.Machines.ToList())
                machine.Become(Fabric.Machines.MachineStatus.Exited);
        }
    }

    /// <summary>Real ledger files, which stop taking records when the process is "dead".</summary>
    private sealed class KillableLedgers(ILedgerStore inner, Action<FaultMoment, string> hook) : ILedgerStore
    {
        internal volatile bool Dead;

        public IReadOnlyList<VmName> List() => inner.List();

        public IVmLedger Open(VmName vm) => new Killable(this, inner.Open(vm), hook);

        private sealed class Killable(KillableLedgers owner, IVmLedger inner, Action<FaultMoment, string> hook) : IVmLedger
        {
            public VmLedgerState State => inner.State;

            public void Append(params ReadOnlySpan<VmRecord> records)
            {
                string[] kinds = new string[records.Length];
                for (int i = 0; i < records.Length; i++)
                    kinds[i] = VmRecord.KindOf(records[i]);
                foreach (string kind in kinds)
                    hook(FaultMoment.Before, kind);
                Check();
                inner.Append(records);
                foreach (string kind in kinds)
                    hook(FaultMoment.After, kind);
                Check();
            }

            public void Dispose() => inner.Dispose();

            private void Check()
            {
                if (owner.Dead)
                    throw new FabricException(ErrorCodes.StoreFailed, "This agent's process is gone.");
            }
        }
    }
}

/// <summary>
/// The real brain without a journal: decides from both hosts' facts, "appends" to a list, sends. Restarting it means replaying the list.
/// </summary>
internal sealed class MiniSupervisor(MigrationPlan plan, TestHost source, TestHost destination)
{
    private static readonly MigrationTimings Timings = MigrationTimings.Default with
    {
        TokenOutcome = TimeSpan.FromMilliseconds(50),
        HandOver = TimeSpan.FromMilliseconds(300),
        Drain = TimeSpan.FromMilliseconds(50),
        Retry = TimeSpan.FromMilliseconds(20),
        Silence = TimeSpan.FromSeconds(2),
        Fencing = TimeSpan.FromSeconds(3),
    };

    private readonly List<MigrationEvent> _journal = [new MigrationPlanned(plan.PlannedAt, plan)];
    private readonly Dictionary<MigrationStep, StepAnswer> _answers = [];
    private DateTimeOffset? _sourceSilent;
    private DateTimeOffset? _destinationSilent;

    internal MigrationPlan Plan => plan;

    internal IReadOnlyList<MigrationEvent> Journal => _journal;

    internal MigrationState State { get; private set; } = Applied(Unborn.Instance, new MigrationPlanned(plan.PlannedAt, plan));

    /// <summary>Called after each append, as a test's chance to kill.</summary>
    internal Action<MigrationEvent> Appended { get; set; } = static _ => { };

    /// <summary>Everything that is not journaled is forgotten.</summary>
    internal void Restart()
    {
        _answers.Clear();
        State = _journal.Aggregate<MigrationEvent, MigrationState>(Unborn.Instance, Applied);
    }

    /// <summary>One look at both hosts and one step; false when the migration is over.</summary>
    internal async Task<bool> StepAsync()
    {
        if (State is TerminalState)
            return false;
        var now = TimeProvider.System.GetUtcNow();
        var sourceView = await ViewAsync(source, now, isSource: true);
        var seen = new Observation(now, new Epoch(1), sourceView, await ViewAsync(destination, now, isSource: false), _answers);
        var decision = Brain.Decide(State, seen, Timings);
        foreach (var happened in decision.Events)
        {
            State = Applied(State, happened);
            _journal.Add(happened);
            Appended(happened);
        }

        foreach (var order in decision.Orders)
        {
            var host = order.Host == source.Name ? source : destination;
            if (await host.SendAsync(order.Command) is { } result && host.Alive)
                _answers[order.Step] = new StepAnswer(order.Attempt, result.Error, now);
        }

        return true;
    }

    private async Task<HostView> ViewAsync(TestHost host, DateTimeOffset now, bool isSource)
    {
        var facts = await host.FactsAsync();
        if (isSource)
            _sourceSilent = facts is null ? _sourceSilent ?? now : null;
        else
            _destinationSilent = facts is null ? _destinationSilent ?? now : null;
        return facts is null
            ? new HostView(null, null, null, isSource ? _sourceSilent : _destinationSilent)
            : new HostView(facts.Incarnation, facts.Data, facts.Vms.FirstOrDefault(v => v.Name == plan.Vm), null, now);
    }

    private static MigrationState Applied(MigrationState state, MigrationEvent happened)
    {
        var transition = Transitions.Apply(state, happened);
        return transition.State ?? throw new InvalidOperationException(transition.Error?.ToString());
    }
}
