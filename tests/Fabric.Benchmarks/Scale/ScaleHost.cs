using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Host;
using Fabric.Machines;
using Fabric.Machines.Synthetic;
using Fabric.Wire.Agent;
using Microsoft.Extensions.Logging;

namespace Fabric.Benchmarks.Scale;

/// <summary>What all hosts of a run share.</summary>
internal sealed record HostSurroundings(string Folder, long MemoryBytes, AgentThreads Threads, LedgerPool Ledgers, InProcessLink Link, TimeProvider Time, ILoggerFactory Logs);

/// <summary>One host: the real agent with real ledgers; synthetic machines that run when they are told to, so that they need no thread each.</summary>
internal sealed class ScaleHost : IAsyncDisposable
{
    /// <summary>What a guest does after it booted, and once more after it moved.</summary>
    internal const int Operations = 8;

    private readonly Factory _machines;

    private ScaleHost(HostName name, HostAgent agent, Factory machines, long memoryBytes)
    {
        (Name, Agent, _machines) = (name, agent, machines);
        Registration = new HostRegistration(name, agent.Incarnation, new Uri("http://in-process:1"), agent.Data, memoryBytes, 4, agent.MachineKinds, "scale");
    }

    internal HostName Name { get; }

    internal HostAgent Agent { get; }

    internal HostRegistration Registration { get; }

    /// <summary>Machines that are here now, whoever may run them.</summary>
    internal IReadOnlyCollection<SyntheticMachine> Machines => [.. _machines.Alive.Keys];

    internal static async Task<ScaleHost> StartAsync(HostName name, HostSurroundings around, Func<Random> random, CancellationToken cancellation)
    {
        string folder = Path.Combine(around.Folder, name.Value);
        string consoles = Path.Combine(folder, "console");
        Directory.CreateDirectory(consoles);
        var machines = new Factory(new SyntheticMachineFactory(consoles, around.Time, SyntheticDrive.Manual));
        var seams = new HostAgentSeams(
            new PooledLedgers(Path.Combine(folder, "ledger"), around.Ledgers), around.Link.NewPlane(), [machines], around.Time, random, around.Threads, around.Logs);
        var options = new HostAgentOptions { Name = name, MemoryDirectory = Path.Combine(folder, "memory"), MemoryBytes = around.MemoryBytes };
        Directory.CreateDirectory(Path.Combine(folder, "ledger"));
        return new ScaleHost(name, await HostAgent.StartAsync(options, seams, cancellation), machines, around.MemoryBytes);
    }

    public ValueTask DisposeAsync() => Agent.DisposeAsync();

    /// <summary>Lets a guest run for a moment when it boots, and remembers which machines live.</summary>
    private sealed class Factory(SyntheticMachineFactory inner) : IMachineFactory
    {
        internal ConcurrentDictionary<SyntheticMachine, bool> Alive { get; } = new();

        public MachineKind Kind => inner.Kind;

        public async ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation)
        {
            var machine = (SyntheticMachine)await inner.CreateAsync(spec, birth, cancellation);
            if (birth == MachineBirth.Boot)
                machine.Step(Operations);
            Alive[machine] = true;
            _ = machine.Exited.ContinueWith(_ => Alive.TryRemove(machine, out bool _), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
            return machine;
        }

        public ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation) => inner.AdoptAsync(adoptionRecord, cancellation);

        public ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation) => inner.SweepAsync(adoptionRecords, cancellation);
    }
}
