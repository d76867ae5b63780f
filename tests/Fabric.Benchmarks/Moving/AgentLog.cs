using System.Text.Json;
using Fabric.Cli.Local;
using Fabric.Core;

namespace Fabric.Benchmarks.Moving;

/// <summary>Where the pause of a switch-over went, as the source's agent logs it, in milliseconds: to the stop of the vCPUs, saving the devices, the rest and the load at the destination, token and resume.</summary>
public sealed record HandOverParts(double Stop, double Save, double Ready, double Resume);

/// <summary>What a host's agent has logged: lines of JSON that only ever grow in number.</summary>
internal static class AgentLog
{
    /// <summary>Of the last switch-over; null where there was none.</summary>
    internal static HandOverParts? HandOver(LocalCluster cluster, HostName host, VmName vm) => Records(cluster, host, vm)
        .Where(static r => r.State.TryGetProperty("Resume", out _))
        .Select(static r => new HandOverParts(Number(r.State, "Stop"), Number(r.State, "Save"), Number(r.State, "Ready"), Number(r.State, "Resume")))
        .LastOrDefault();

    /// <summary>When the guest was asked for another size.</summary>
    internal static IReadOnlyList<DateTimeOffset> BalloonOrders(LocalCluster cluster, HostName host, VmName vm) =>
        [.. Records(cluster, host, vm).Where(static r => r.State.TryGetProperty("Target", out _) && r.State.TryGetProperty("Before", out _)).Select(static r => r.At)];

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
