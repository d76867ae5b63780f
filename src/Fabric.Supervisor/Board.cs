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
/// the last silence.
/// </summary>
internal sealed record HostLevel(HostFacts? Facts, DateTimeOffset? UnreachableSince, DateTimeOffset? AnswersSince = null)
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
    private ImmutableList<Subscription> _subscriptions = []; // under _gate for writing
    private TaskCompletionSource _changed = NewSignal(); // under _gate
    private long _version; // under _gate for writing

    public long Version => Interlocked.Read(ref _version);

    public IEnumerable<VmState> Vms => _vms.Values;

    public IEnumerable<KnownState> Migrations => _migrations.Values;

    public IEnumerable<BatchState> Batches => _batches.Values;

    /// <summary>
    /// A host that was never heard is silent since hosts could register here: the time that this node needed to get its shards is not the host's silence.
    /// </summary>
    public HostLevel Host(HostName host) => _hosts.GetValueOrDefault(host) ?? new HostLevel(null, Opened ?? time.GetUtcNow());

    /// <summary>When hosts could register for the first time; null before.</summary>
    public DateTimeOffset? Opened => Interlocked.Read(ref _openedAt) is > 0 and var ticks ? new DateTimeOffset(ticks, TimeSpan.Zero) : null;

    /// <summary>From now on hosts can register.</summary>
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

    public void Publish(HostName host, HostLevel level)
    {
        _hosts[host] = level;
        Raise(HostTopic(host));
    }

    public void Publish(VmState vm)
    {
        _vms[vm.Name] = vm;
        Raise(VmTopic);
    }

    public void Publish(KnownState migration)
    {
        _migrations[migration.Plan.Id] = migration;
        if (migration.Plan.RequestId is { } request)
            _requests[request] = migration.Plan.Id;
        Raise(MigrationTopic);
    }

    public void Publish(BatchState batch)
    {
        _batches[batch.Plan.Id] = batch;
        Raise(BatchTopic);
    }

    public void Touch() => Raise("");

    public const string MigrationTopic = "migrations";
    public const string VmTopic = "vms";
    public const string BatchTopic = "batches";

    public static string HostTopic(HostName host) => $"host/{host}";

    /// <summary>Calls <paramref name="notify"/> after every publication under <paramref name="topic"/>, on the publisher's thread: it only puts a message somewhere.</summary>
    public IDisposable Subscribe(string topic, Action notify)
    {
        var subscription = new Subscription(this, topic, notify);
        lock (_gate)
            _subscriptions = _subscriptions.Add(subscription);
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
            changed = _changed.Task;
        }

        using var timer = new CancellationTokenSource(wait, time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellation);
        await changed.WaitAsync(both.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        cancellation.ThrowIfCancellationRequested();
        return Version;
    }

    private void Raise(string topic)
    {
        TaskCompletionSource signal;
        ImmutableList<Subscription> subscriptions;
        lock (_gate)
        {
            _version++;
            signal = _changed;
            _changed = NewSignal();
            subscriptions = _subscriptions;
        }

        signal.TrySetResult();
        foreach (var subscription in subscriptions)
        {
            if (subscription.Topic == topic)
                subscription.Notify();
        }
    }

    // Completed outside the lock; whoever waits comes back to its own context. The flag would take it over the pool first, off the thread of a simulation.
    private static TaskCompletionSource NewSignal() => new();

    private sealed record Subscription(Board Board, string Topic, Action Notify) : IDisposable
    {
        public void Dispose()
        {
            lock (Board._gate)
                Board._subscriptions = Board._subscriptions.RemoveAll(other => ReferenceEquals(other, this));
        }
    }
}
