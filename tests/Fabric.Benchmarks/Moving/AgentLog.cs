using System.Text.Json;
using Fabric.Cli.Local;
using Fabric.Core;

namespace Fabric.Benchmarks.Moving;

/// <summary>Where the pause of a switch-over went, as the source's agent logs it, in milliseconds: to the stop of the vCPUs, saving the devices, the rest and the load at the destination, token and resume.</summary>
public sealed record HandOverParts(double Stop, double Save, double Ready, double Resume);

/// <summary>What a host's agent has logged: lines of JSON that only ever grow in number.</summary>
internal static class AgentLog
{
    private const string RehearsalVariable = "FABRIC_HOST_REHEARSE";
    private static readonly TimeSpan CompiledWithin = TimeSpan.FromMinutes(1);

    /// <summary>Of the last switch-over; null where there was none.</summary>
    internal static HandOverParts? HandOver(LocalCluster cluster, HostName host, VmName vm) => Records(cluster, host, vm)
        .Where(static r => r.State.TryGetProperty("Resume", out _))
        .Select(static r => new HandOverParts(Number(r.State, "Stop"), Number(r.State, "Save"), Number(r.State, "Ready"), Number(r.State, "Resume")))
        .LastOrDefault();

    /// <summary>When the guest was asked for another size.</summary>
    internal static IReadOnlyList<DateTimeOffset> BalloonOrders(LocalCluster cluster, HostName host, VmName vm) =>
        [.. Records(cluster, host, vm).Where(static r => r.State.TryGetProperty("Target", out _) && r.State.TryGetProperty("Before", out _)).Select(static r => r.At)];

    /// <summary>
    /// Returns when the hosts' rehearsals are over and what they did not call is compiled. What is measured before that tells of an agent's first seconds. Does not wait where there is none to be.
    /// </summary>
    /// <exception cref="FabricException">deadline-exceeded: a host has not said so within a minute.</exception>
    internal static async Task CompiledAsync(LocalCluster cluster, TimeProvider time, CancellationToken cancellation)
    {
        if (Environment.GetEnvironmentVariable(RehearsalVariable) == "false")
            return;
        long began = time.GetTimestamp();
        foreach (string host in cluster.Hosts)
        {
            while (!Records(cluster, HostName.Parse(host)).Any(static r => r.State.TryGetProperty("Methods", out _)))
            {
                if (time.GetElapsedTime(began) > CompiledWithin)
                    throw new FabricException(ErrorCodes.DeadlineExceeded, $"Host '{host}' has not compiled all that takes part in a migration within {CompiledWithin.TotalSeconds:0} s. The end of its log:\n{cluster.LogTail(host)}");
                await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellation);
            }
        }
    }

    private static IEnumerable<(DateTimeOffset At, JsonElement State)> Records(LocalCluster cluster, HostName host, VmName vm) =>
        Records(cluster, host).Where(r => r.State.TryGetProperty("Vm", out var named) && named.GetString() == vm.Value);

    private static IEnumerable<(DateTimeOffset At, JsonElement State)> Records(LocalCluster cluster, HostName host)
    {
        using var reader = new StreamReader(new FileStream(cluster.LogOf(host.Value), FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        while (reader.ReadLine() is { } line)
        {
            // A last line may be half written.
            if (!line.StartsWith('{') || !line.EndsWith('}'))
                continue;
            using var json = JsonDocument.Parse(line);
            if (json.RootElement.TryGetProperty("State", out var state))
                yield return (json.RootElement.GetProperty("Timestamp").GetDateTimeOffset(), state.Clone());
        }
    }

    private static double Number(JsonElement state, string name) => state.GetProperty(name).GetDouble();
}
