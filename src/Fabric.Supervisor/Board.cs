using System.Collections.Concurrent;
using System.Collections.Immutable;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Agent;

namespace Fabric.Supervisor;

/// <summary>
/// What a host last said and since when it is silent. <paramref name="Facts"/>: null before the first. <paramref name="AnswersSince"/>: the first facts after this node's start, or after
/// the last silence. <paramref name="AskedAt"/>: when the poll began that brought the facts, or found them unchanged.
/// </summary>
internal sealed record HostLevel(HostFacts? Facts, DateTimeOffset? UnreachableSince, DateTimeOffset? AnswersSince = null, DateTimeOffset? AskedAt = null)
{
    public VmFact? Vm(VmName name) => Facts?.Vms.FirstOrDefault(vm => vm.Name == name);

    public bool Current => Facts is not null && UnreachableSince is null;
}

/// <summary>
/// Where actors publish what they know and queries read it: immutable values, replaced whole. Each value has one writer (its entity's actor, a host's watcher); anybody reads.
/// Every publication raises <see cref="Version"/> and wakes those that wait for a change.
/// </summary>
/// <param name="registerWithin">How long after this node opened nothing follows from a host's not having registered.</param>
internal sealed class Board(TimeProvider time, TimeSpan registerWithin)
{
    private long _openedAt; // UTC ticks; 0: not yet
    private readonly ConcurrentDictionary<HostName, HostLevel> _hosts = new();
    private readonly ConcurrentDictionary<VmName, VmState> _vms = new();
    private readonly ConcurrentDictionary<MigrationId, KnownState> _migrations = new();
    private readonly ConcurrentDictionary<string, BatchState> _batches = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<Guid, MigrationId> _requests = new();
    private readonly Lock _gate = new();
    private readonly Dictionary<string, ImmutableList<Subscription>> _subscriptions = new(StringComparer.Ordinal); // under _gate; by topic, since there are thousands
    private TaskCompletionSource? _changed; // under _gate; null while nobody waits
    private long _version; // under _gate for writing

    public long Version => Interlocked.Read(ref _version);

    /// <summary>The migrations under way, as limits count them.</summary>
    public Traffic Traffic { get; } = new();

    public IEnumerable<VmState> Vms => _vms.Select(static entry => entry.Value);

    public IEnumerable<KnownState> Migrations => _migrations.Select(static entry => entry.Value);

    public IEnumerable<BatchState> Batches => _batches.Select(static entry => entry.Value);

    /// <summary>
    /// A host that was never heard is silent since hosts could register here: the time that this node needed to get its shards is not the host's silence.
    /// </summary>
    public HostLevel Host(HostName host) => _hosts.GetValueOrDefault(host) ?? new HostLevel(null, Opened ?? time.GetUtcNow());

    /// <summary>When every shard had been read and hosts could register, for the first time; null before.</summary>
    public DateTimeOffset? Opened => Interlocked.Read(ref _openedAt) is > 0 and var ticks ? new DateTimeOffset(ticks, TimeSpan.Zero) : null;

    /// <summary>Every shard was read once, and hosts can register.</summary>
    public void Open() => Interlocked.CompareExchange(ref _openedAt, time.GetUtcNow().UtcTicks, 0);

    /// <summary>Whether every host that lives has had the time to register here.</summary>
    public bool HostsAreKnown => Opened is { } opened && time.GetUtcNow() - opened >= registerWithin;

    /// <summary>What to say of a host that is not registered: for a moment after this node's start that means nothing.</summary>
    public FabricError UnknownHost(HostName host) => HostsAreKnown
        ? new FabricError(ErrorCodes.NotFound, $"There is no host '{host}'.", "fabric host list")
        : new FabricError(ErrorCodes.Unreachable, $"Host '{host}' has not registered with this control node, which started a moment ago.", "Try again in a few seconds.");

    public VmState? Vm(VmName vm) => _vms.GetValueOrDefault(vm);

    public KnownState? Migration(MigrationId id) => _migrations.GetValueOrDefault(id);

    public BatchState? Batch(string id) => _batches.GetValueOrDefault(id);

    public KnownState? MigrationOfRequest(Guid request) => _requests.TryGetValue(request, out var id) ? Migration(id) : null;

    /// <summary>
    /// Wakes those that follow the host when it comes or goes, and otherwise only those whose VM is another: a host that moves a hundred VMs says something new of one of them
    /// every few milliseconds, and always says all.
    /// </summary>
    public void Publish(HostName host, HostLevel level)
    {
        var before = _hosts.GetValueOrDefault(host);
        _hosts[host] = level;
        Raise(before is { Current: true, Facts: { } old } && level is { Current: true, Facts: { } facts } && old.Incarnation == facts.Incarnation && old.Data == facts.Data
            ? [.. Changes(old, facts).Select(vm => HostVmTopic(host, vm))]
            : [HostTopic(host)]);
    }

    /// <summary>The host was asked again and says the same: nobody is woken.</summary>
    public void Confirm(HostName host, HostLevel level) => _hosts[host] = level;

    private static IEnumerable<VmName> Changes(HostFacts before, HostFacts now)
    {
        var old = new Dictionary<VmName, VmFact>();
        foreach (var vm in before.Vms)
            old[vm.Name] = vm; // an agent that names a VM twice is not believed to have two
        foreach (var vm in now.Vms)
        {
            if (!old.Remove(vm.Name, out var known) || !Same(known, vm))
                yield return vm.Name;
        }

        foreach (var gone in old.Keys)
            yield return gone;
    }

    /// <summary>Not by the spec, which does not change under a name without the epoch.</summary>
    private static bool Same(VmFact one, VmFact other) =>
        one.RunEpoch == other.RunEpoch && one.Owner == other.Owner && one.State == other.State && one.Outgoing == other.Outgoing && one.Incoming == other.Incoming && one.Note == other.Note;

    public void Publish(VmState vm)
    {
        _vms[vm.Name] = vm;
        Raise([VmTopic(vm.Name)]);
    }

    public void Publish(KnownState migration)
    {
        _migrations[migration.Plan.Id] = migration;
        if (migration.Plan.RequestId is { } request)
            _requests[request] = migration.Plan.Id;
        bool room = Traffic.Take(migration);
        Raise(room ? [VmTopic(migration.Plan.Vm), RoomTopic] : [VmTopic(migration.Plan.Vm)]);
    }

    public void Publish(BatchState batch)
    {
        _batches[batch.Plan.Id] = batch;
        Raise([]);
    }

    public void Touch() => Raise([]);

    /// <summary>A migration has ended: another one may begin.</summary>
    public const string RoomTopic = "room";

    /// <summary>The VM's books, or any migration of it.</summary>
    public static string VmTopic(VmName vm) => $"vm/{vm}";

    /// <summary>The host comes or goes, or its agent was started anew. What changes about one VM on it is under <see cref="HostVmTopic"/>.</summary>
    public static string HostTopic(HostName host) => $"host/{host}";

    public static string HostVmTopic(HostName host, VmName vm) => $"host/{host}/{vm}";

    /// <summary>Calls <paramref name="notify"/> after every publication under <paramref name="topic"/>, on the publisher's thread: it only puts a message somewhere.</summary>
    public IDisposable Subscribe(string topic, Action notify)
    {
        var subscription = new Subscription(this, topic, notify);
        lock (_gate)
            _subscriptions[topic] = _subscriptions.GetValueOrDefault(topic, []).Add(subscription);
        return subscription;
    }

    /// <summary>The version, as soon as it is above <paramref name="after"/> or the wait is over.</summary>
    public async Task<long> WaitAsync(long after, TimeSpan wait, CancellationToken cancellation)
    {
        Task changed;
        lock (_gate)
        {
            if (_version > after)
                return _version;
            changed = (_changed ??= NewSignal()).Task;
        }

        using var timer = new CancellationTokenSource(wait, time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        await changed.WaitAsync(both.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        cancellation.ThrowIfCancellationRequested();
        return Version;
    }

    private void Raise(IReadOnlyList<string> topics)
    {
        TaskCompletionSource? signal;
        var woken = new List<Subscription>();
        lock (_gate)
        {
            _version++;
            (signal, _changed) = (_changed, null);
            foreach (string topic in topics)
                woken.AddRange(_subscriptions.GetValueOrDefault(topic, []));
        }

        signal?.TrySetResult();
        foreach (var subscription in woken)
            subscription.Notify();
    }

    // Completed outside the lock; whoever waits comes back to its own context. The flag would take it over the pool first, off the thread of a simulation.
    private static TaskCompletionSource NewSignal() => new();

    private sealed record Subscription(Board Board, string Topic, Action Notify) : IDisposable
    {
        public void Dispose()
        {
            lock (Board._gate)
            {
                if (!Board._subscriptions.TryGetValue(Topic, out var known))
                    return;
                var left = known.RemoveAll(other => ReferenceEquals(other, this));
                if (left.IsEmpty)
                    Board._subscriptions.Remove(Topic);
                else
                    Board._subscriptions[Topic] = left;
            }
        }
    }
}
