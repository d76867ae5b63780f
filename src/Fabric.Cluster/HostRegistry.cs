using System.Collections.Concurrent;
using System.Collections.Immutable;
using Fabric.Core;
using Fabric.Wire.Agent;

namespace Fabric.Cluster;

/// <summary>
/// One registered host. <paramref name="LastSeen"/>: when its agent last registered or answered, by the control node's clock.
/// <paramref name="LastSeenTicks"/>: the same by its monotonic clock, for deadlines.
/// </summary>
public sealed record RegisteredHost(HostRegistration Registration, DateTimeOffset LastSeen, long LastSeenTicks);

/// <summary>Nothing new is placed on a host since <paramref name="At"/>. <paramref name="Reason"/>: null when nobody gave one.</summary>
public sealed record Cordon(DateTimeOffset At, string? Reason);

/// <summary>
/// The hosts that registered since this control node started, and which hosts are cordoned. Registrations are soft: agents repeat them every second or two.
/// Cordons are what the journal says; whoever replays it sets them here. Any thread.
/// </summary>
public sealed class HostRegistry(TimeProvider time)
{
    /// <summary>Hosts that one control plane takes; a registration beyond it is refused.</summary>
    public const int MostHosts = 10_000;

    private readonly ConcurrentDictionary<HostName, RegisteredHost> _hosts = new();
    private ImmutableDictionary<HostName, Cordon> _cordons = ImmutableDictionary<HostName, Cordon>.Empty;

    public IReadOnlyList<RegisteredHost> All => [.. _hosts.Values.OrderBy(static h => h.Registration.Name.Value, StringComparer.Ordinal)];

    public RegisteredHost? Find(HostName host) => _hosts.GetValueOrDefault(host);

    public bool IsCordoned(HostName host) => CordonOf(host) is not null;

    /// <summary>Null when the host is not cordoned.</summary>
    public Cordon? CordonOf(HostName host) => Volatile.Read(ref _cordons).GetValueOrDefault(host);

    /// <summary>Null lets the host be chosen again.</summary>
    public void SetCordoned(HostName host, Cordon? cordon)
    {
        if (cordon is null)
            ImmutableInterlocked.TryRemove(ref _cordons, host, out _);
        else
            ImmutableInterlocked.AddOrUpdate(ref _cordons, host, cordon, (_, _) => cordon);
    }

    /// <summary>Takes a registration; true when it is a new host, a new incarnation, or the agent or its site moved.</summary>
    /// <exception cref="FabricException">invalid-argument, naming the field; exhausted beyond <see cref="MostHosts"/>.</exception>
    public bool Register(HostRegistration registration)
    {
        ArgumentNullException.ThrowIfNull(registration);
        Validate(registration);
        bool changed = !_hosts.TryGetValue(registration.Name, out var before)
            || before.Registration.Incarnation != registration.Incarnation
            || before.Registration.AgentUrl != registration.AgentUrl
            || before.Registration.Data != registration.Data
            || before.Registration.Site != registration.Site;
        if (before is null && _hosts.Count >= MostHosts)
            throw new FabricException(ErrorCodes.Exhausted, $"Host '{registration.Name}' would be one more than {MostHosts}.", "Use a second control plane.");
        _hosts[registration.Name] = new RegisteredHost(registration, time.GetUtcNow(), time.GetTimestamp());
        return changed;
    }

    /// <summary>The host's agent answered.</summary>
    public void Seen(HostName host)
    {
        if (_hosts.TryGetValue(host, out var known))
            _hosts.TryUpdate(host, known with { LastSeen = time.GetUtcNow(), LastSeenTicks = time.GetTimestamp() }, known);
    }

    private static void Validate(HostRegistration registration)
    {
        if (!registration.AgentUrl.IsAbsoluteUri || registration.AgentUrl.Scheme is not ("http" or "https"))
            throw Refuse($"agent URL '{Label.Shorten(registration.AgentUrl.ToString())}'", "Give an absolute http URL.");
        if (registration.Data.Port is < 1 or > 65535 || registration.Data.Address.Length is 0 or > 255)
            throw Refuse($"data address '{Label.Shorten(registration.Data.Address)}' port {registration.Data.Port}", "Give an address and a port of 1 to 65535.");
        if (registration.MemoryBytes <= 0 || registration.Cpus <= 0)
            throw Refuse($"{registration.MemoryBytes} bytes of memory and {registration.Cpus} CPUs", "Both are above 0.");
        if (registration.Incarnation == Guid.Empty)
            throw Refuse("an empty incarnation", "It is a new random id at each start of the agent.");
        if (registration.Machines.Count > 16 || registration.Version.Length > 64)
            throw Refuse("an over-long list of machines or version", "At most 16 machines and 64 characters of version.");

        FabricException Refuse(string what, string hint) =>
            new(ErrorCodes.InvalidArgument, $"Host '{registration.Name}' registers with {what}.", hint);
    }
}
