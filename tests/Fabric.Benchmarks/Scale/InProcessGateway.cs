using System.Collections.Concurrent;
using System.Text.Json;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Benchmarks.Scale;

/// <summary>
/// The way from the control node to the agents without HTTP: every message is written as JSON by its sender and read from JSON by its receiver, as on the wire, on the threads of
/// whose work it is. Counts what passes.
/// </summary>
internal sealed class InProcessGateway(AgentThreads threads, DecisionClock clock, TimeProvider time) : IAgentGateway
{
    private readonly ConcurrentDictionary<HostName, ScaleHost> _hosts = new();
    private readonly ConcurrentDictionary<HostName, long> _answered = new();
    private readonly ConcurrentQueue<double> _gaps = new();
    private long _commands;
    private long _facts;
    private long _factBytes;

    internal long Commands => Interlocked.Read(ref _commands);

    internal long Facts => Interlocked.Read(ref _facts);

    internal long FactBytes => Interlocked.Read(ref _factBytes);

    /// <summary>Milliseconds from an answer with facts to the next poll of that host: for so long a new fact waits at its agent.</summary>
    internal IReadOnlyList<double> PollGaps => [.. _gaps];

    internal void Add(ScaleHost host) => _hosts[host.Name] = host;

    internal void Forget() => _gaps.Clear();

    public async Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(command);
        clock.Sends(command);
        Interlocked.Increment(ref _commands);
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(command, AgentJson.Default.AgentCommand);
        var agent = Find(host).Agent;
        var heard = await threads.RunAsync(() => JsonSerializer.Deserialize(body, AgentJson.Default.AgentCommand)!);
        var result = await agent.ExecuteAsync(heard, cancellation);
        byte[] answer = await threads.RunAsync(() =>
        {
            clock.Answered(command, result);
            return JsonSerializer.SerializeToUtf8Bytes(result, AgentJson.Default.CommandResult);
        });
        return JsonSerializer.Deserialize(answer, AgentJson.Default.CommandResult)!;
    }

    public async Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation)
    {
        if (_answered.TryRemove(host, out long since))
            _gaps.Enqueue(time.GetElapsedTime(since).TotalMilliseconds);
        var facts = await Find(host).Agent.FactsAsync(after, wait, cancellation);
        byte[] answer = await threads.RunAsync(() =>
        {
            foreach (var vm in facts.Vms)
                clock.Says(vm);
            return JsonSerializer.SerializeToUtf8Bytes(facts, AgentJson.Default.HostFacts);
        });
        Interlocked.Increment(ref _facts);
        Interlocked.Add(ref _factBytes, answer.Length);
        _answered[host] = time.GetTimestamp();
        return JsonSerializer.Deserialize(answer, AgentJson.Default.HostFacts)!;
    }

    public Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation) => Find(host).Agent.ConsoleAsync(vm, offset, most, cancellation);

    private ScaleHost Find(HostName host) => _hosts.TryGetValue(host, out var known) ? known : throw new FabricException(ErrorCodes.Unreachable, $"There is no host '{host}'.");
}
