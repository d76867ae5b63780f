using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Host.Disk;
using Fabric.Host.Ledger;
using Fabric.Host.Link;
using Fabric.Host.Memory;
using Fabric.Host.Vm;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Microsoft.Extensions.Logging;

namespace Fabric.Host;

/// <summary>What a host agent is built from; each of them is a seam that a test or a simulation may replace.</summary>
public sealed record HostAgentSeams(
    ILedgerStore Ledgers, IDataPlane Plane, IReadOnlyList<IMachineFactory> Machines, TimeProvider Time, Func<Random> Random, IDispatcher Dispatcher, ILoggerFactory Loggers);

/// <summary>
/// One host's agent: an actor per VM, a board of facts. It takes hold of everything that an earlier agent on this host left, before it answers.
/// Stopping it leaves the guests running.
/// </summary>
public sealed class HostAgent : IHostAgent, IAsyncDisposable
{
    private static readonly TimeSpan CommandDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan RecoverDeadline = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan StopDeadline = TimeSpan.FromSeconds(10);
    private const int ConsoleBytesMost = 256 * 1024;

    private readonly HostAgentSeams _seams;
    private readonly HostParts _parts;
    private readonly ActorSystem _actors;
    private readonly Meter _meter = new("Fabric.Host");
    private readonly ConcurrentDictionary<VmName, Lazy<IActorRef<VmMessage>>> _vms = new();

    private HostAgent(HostAgentOptions options, HostAgentSeams seams)
    {
        _seams = seams;
        Incarnation = RandomIds.Next(seams.Random());
        _actors = new ActorSystem(seams.Time, seams.Random(), seams.Dispatcher, seams.Loggers);
        _parts = new HostParts
        {
            Options = options,
            Ledgers = seams.Ledgers,
            Plane = seams.Plane,
            Facts = new FactsBoard(seams.Time),
            Admission = new Admission(options.Name, options.MemoryBytes),
            Factories = seams.Machines.ToDictionary(m => m.Kind),
            Loggers = seams.Loggers,
            Random = seams.Random,
            VmMetrics = new VmMetrics(_meter),
            MemoryMetrics = new MemoryMetrics(_meter),
            DiskMetrics = new DiskMetrics(_meter),
            BalloonMetrics = new BalloonMetrics(_meter),
        };
    }

    /// <summary>New at each start; an answer of an earlier incarnation is never taken for one of this.</summary>
    public Guid Incarnation { get; }

    public DataEndpoint Data => _parts.Plane.Endpoint;

    public IReadOnlyList<MachineKind> MachineKinds => [.. _parts.Factories.Keys];

    /// <summary>Starts the agent: ends machines that no ledger names, then opens every ledger and reconciles it with the machines that are there.</summary>
    public static async Task<HostAgent> StartAsync(HostAgentOptions options, HostAgentSeams seams, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(seams);
        Directory.CreateDirectory(options.MemoryDirectory);
        var known = seams.Ledgers.List();
        if (RecordedMachines(seams, known) is { } machines)
        {
            foreach (var factory in seams.Machines)
                await factory.SweepAsync(machines, cancellation);
        }

        var agent = new HostAgent(options, seams);
        await agent.RecoverAsync(known, cancellation);
        return agent;
    }

    /// <summary>
    /// Returns when every VM that a ledger names has been said in the facts: who asks this agent next would take a VM that is absent for one that is gone.
    /// One that takes longer than the others may hold up stands there as what it is, unknown.
    /// </summary>
    private async Task RecoverAsync(IReadOnlyList<VmName> known, CancellationToken cancellation)
    {
        foreach (var vm in known)
            _parts.Facts.Publish(vm, VmFacts.From(vm, new FabricError(ErrorCodes.Conflict, "The agent was started and has not read its ledger yet."), null, new VmState()));
        var recovered = known.Select(vm => ActorOf(vm).AskAsync<VmMessage, bool>(static reply => new RecoveryAwaited(reply), RecoverDeadline, _seams.Time, cancellation)).ToList();
        foreach (var asked in recovered)
        {
            try
            {
                await asked;
            }
            catch (FabricException e)
            {
                _seams.Loggers.CreateLogger<HostAgent>().LogWarning("Not every VM was recovered within {Deadline}: {Error}", RecoverDeadline, e.Error);
            }
        }
    }

    /// <summary>
    /// Null when a ledger cannot be read: nothing is known of its machine then, so ending machines that no record names would be guessing.
    /// The VM's own actor reports the damage.
    /// </summary>
    private static List<string>? RecordedMachines(HostAgentSeams seams, IReadOnlyList<VmName> known)
    {
        var machines = new List<string>();
        foreach (var vm in known)
        {
            try
            {
                using var ledger = seams.Ledgers.Open(vm);
                if (ledger.State.Machine is { } record)
                    machines.Add(record);
            }
            catch (FabricException e)
            {
                seams.Loggers.CreateLogger<HostAgent>().LogError("Leftover machines are not ended, since the ledger of VM {Vm} cannot be read: {Error}", vm, e.Error);
                return null;
            }
        }

        return machines;
    }

    public async Task<CommandResult> ExecuteAsync(AgentCommand command, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(command);
        var header = command.Header;
        if (!_vms.ContainsKey(header.Vm) && _vms.Count >= Limits.VmsPerHost)
            return new CommandResult(header.Id, new FabricError(ErrorCodes.Exhausted, $"Host {_parts.Host} knows {Limits.VmsPerHost} VMs, the most it can.", "Restart the agent to forget VMs that have left."));
        try
        {
            return await ActorOf(header.Vm).AskAsync<VmMessage, CommandResult>(reply => new Execute(command, reply), CommandDeadline, _seams.Time, cancellation);
        }
        catch (FabricException e)
        {
            return new CommandResult(header.Id, e.Error);
        }
    }

    public async Task<HostFacts> FactsAsync(long after, TimeSpan wait, CancellationToken cancellation)
    {
        var (version, facts) = await _parts.Facts.WaitAsync(after, wait, cancellation);
        return new HostFacts(_parts.Host, Incarnation, version, Data, _parts.Admission.MemoryFree() ?? 0, facts);
    }

    public async Task<byte[]?> ConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        string? path = _parts.ConsoleOf(vm);
        if (path is null)
            return null;
        if (!File.Exists(path))
            return [];
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        long left = Math.Max(0, file.Length - offset);
        byte[] bytes = new byte[Math.Min(left, Math.Clamp(most, 0, ConsoleBytesMost))];
        file.Position = Math.Min(offset, file.Length);
        int read = await file.ReadAtLeastAsync(bytes, bytes.Length, throwOnEndOfStream: false, cancellation);
        return bytes[..read];
    }

    public async ValueTask DisposeAsync()
    {
        await _actors.StopAsync(StopDeadline);
        await _actors.DisposeAsync();
        await _parts.Plane.DisposeAsync();
        _meter.Dispose();
    }

    private IActorRef<VmMessage> ActorOf(VmName vm) =>
        _vms.GetOrAdd(vm, static (name, agent) => new Lazy<IActorRef<VmMessage>>(() => agent.SpawnVm(name)), this).Value;

    private IActorRef<VmMessage> SpawnVm(VmName name) => _actors.Spawn<VmMessage>("vm-" + name.Value, () => new VmActor(name, _parts));
}
