// One node's part in the membership of the control cluster. The view is a row set in the store with a version; every change is one compare-and-swap on it,
// so all nodes agree on one history of views without a protocol of their own.
//
//   each period:  beat ──▶ store: my row's beat, by its clock; returns the version, so one round trip also shows changes
//                 probe ─▶ every other node that is up, directly
//                 judge:   MissedProbes misses in a row ─▶ my suspicion into the view;  an answer ─▶ my suspicion out of it
//                          enough witnesses (Verdict) ─▶ Dead, which is final
//
// A node that finds itself Dead or gone from the view has been expelled: its work ends (Expelled fires), and it may come back as another node id only.
// So has every node when the cluster's id is another one: the store may have forgotten what was durable, so what anybody has read or decided counts no more and is read again.
// A store that restarts renews the id by itself; one that is put back in time under a node that runs shows an older version, and the node renews it.
using Fabric.Core;
using Fabric.Journal;
using Microsoft.Extensions.Logging;

namespace Fabric.Cluster.Membership;

/// <summary>Keeps one node in the view and watches the others. <see cref="JoinAsync"/> first, <see cref="LeaveAsync"/> or just disposing last; the members are for any thread.</summary>
public sealed partial class MembershipKeeper(
    IMembership store, MemberJoins self, IPeerProbe probe, TimeProvider time, Random random, ILogger<MembershipKeeper> log, MembershipOptions? options = null) : IAsyncDisposable
{
    private const int Tries = 16;

    private static readonly ClusterView NoView = new(Guid.Empty, 0, [], []);

    private readonly MembershipOptions _options = options ?? MembershipOptions.Default;
    private readonly Jitter _jitter = new(random);
    private readonly CancellationTokenSource _stop = new();
    private readonly CancellationTokenSource _expelled = new();
    private readonly Dictionary<Guid, int> _misses = []; // of the watching loop alone
    private readonly Lock _gate = new();
    private Action<ClusterView>? _listeners; // under _gate
    private ClusterView _view = NoView; // under _gate for writing
    private Task _watching = Task.CompletedTask;
    private int _disposed;

    public Guid Node => self.Node;

    /// <summary>The newest view that this node has seen.</summary>
    public ClusterView View => Volatile.Read(ref _view);

    /// <summary>Fires when the view says that this node is dead, does not name it any more, or is of another cluster id than the one that it joined.</summary>
    public CancellationToken Expelled => _expelled.Token;

    /// <summary>Calls <paramref name="listener"/> with the view of now and with every later one, in order, one at a time.</summary>
    public void Follow(Action<ClusterView> listener)
    {
        ArgumentNullException.ThrowIfNull(listener);
        lock (_gate)
        {
            _listeners += listener;
            listener(_view);
        }
    }

    /// <summary>Enters the view as up; earlier lives of the same name, which hold the same state directory no longer, are dead from here on.</summary>
    /// <exception cref="FabricException">store-failed; conflict: the view changes too often.</exception>
    public async Task JoinAsync(CancellationToken cancellation)
    {
        await ChangeAsync(
            view => [
                .. view.Members.Where(m => m.Name == self.Name && m.Node != self.Node && !m.IsFinal).Select(static m => new MemberBecomes(m.Node, MemberState.Dead)),
                .. view.Find(self.Node) is null ? [self, new MemberBecomes(self.Node, MemberState.Up)] : Array.Empty<ViewChange>()],
            cancellation);
        LogJoined(log, self.Name, self.Node, View.Version);
        _watching = WatchAsync(_stop.Token);
    }

    /// <summary>Step one of leaving in good order: no shard is placed here any more.</summary>
    public Task AnnounceLeavingAsync(CancellationToken cancellation) => SetOwnStateAsync(MemberState.Leaving, cancellation);

    /// <summary>Step two, when all shards were given back.</summary>
    public async Task LeaveAsync(CancellationToken cancellation)
    {
        Stop();
        await _watching;
        await SetOwnStateAsync(MemberState.Left, cancellation);
    }

    /// <summary>Ends the watching and says nothing to the store: to the others this node just falls silent. May be called again.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        Stop();
        await _watching;
        _stop.Dispose();
        _expelled.Dispose();
    }

    // Not by CancelAsync, whose callbacks run on the pool: a simulation has one thread.
    private void Stop() => _stop.Cancel();

    private Task SetOwnStateAsync(MemberState state, CancellationToken cancellation) => ChangeAsync(
        view => view.Find(self.Node) is { IsFinal: false } me && me.State != state ? [new MemberBecomes(self.Node, state)] : [],
        cancellation);

    /// <summary>Reads, decides, swaps; again from the view that was there instead, until the decision stands or is empty.</summary>
    private async Task ChangeAsync(Func<ClusterView, IReadOnlyList<ViewChange>> decide, CancellationToken cancellation)
    {
        var view = await store.ReadViewAsync(cancellation);
        for (int i = 0; i < Tries; i++)
        {
            var changes = decide(view);
            if (changes.Count == 0)
            {
                Adopt(view);
                return;
            }

            (view, bool changed) = await store.ChangeAsync(view, changes, cancellation);
            if (changed)
            {
                Adopt(view);
                return;
            }
        }

        throw new FabricException(ErrorCodes.Conflict, $"The view of the cluster changed {Tries} times while node '{self.Name}' tried to change it.", "Try again.");
    }

    private async Task WatchAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested && !_expelled.IsCancellationRequested)
        {
            using var deadline = new CancellationTokenSource(_options.StoreDeadline, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, deadline.Token);
            try
            {
                await BeatAsync(either.Token);
                await ProbeAllAsync(stop);
                if (Judge(View).Count > 0)
                    await ChangeAsync(Judge, either.Token);
            }
            catch (FabricException failure)
            {
                LogStoreTrouble(log, self.Name, failure.Error.ToString());
            }
            catch (OperationCanceledException) when (!stop.IsCancellationRequested)
            {
                LogStoreTrouble(log, self.Name, "no answer in time");
            }
            catch (OperationCanceledException)
            {
                return;
            }

            await Task.Delay(_jitter.Around(_options.Period, 0.25), time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    private async Task BeatAsync(CancellationToken cancellation)
    {
        var known = View;
        var (cluster, version) = await store.BeatAsync(self.Node, cancellation);
        if (cluster == known.Cluster && version < known.Version)
        {
            LogWentBack(log, self.Name, known.Version, version);
            var (renewed, _) = await store.RenewClusterAsync(cluster, cancellation);
            Adopt(renewed);
            return;
        }

        // Beats are not versions: while somebody is suspected, how old the beats are matters as well.
        if (cluster != View.Cluster || version != View.Version || _misses.Values.Any(m => m >= _options.MissedProbes))
            Adopt(await store.ReadViewAsync(cancellation));
    }

    private async Task ProbeAllAsync(CancellationToken stop)
    {
        var others = View.Members.Where(m => m.Node != self.Node && (m.State is MemberState.Up or MemberState.Leaving)).ToList();
        foreach (var gone in _misses.Keys.Except(others.Select(static m => m.Node)).ToList())
            _misses.Remove(gone);
        bool[] answered = await Task.WhenAll(others.Select(other => ProbeAsync(other, stop)));
        for (int i = 0; i < others.Count; i++)
            _misses[others[i].Node] = answered[i] ? 0 : _misses.GetValueOrDefault(others[i].Node) + 1;
    }

    private async Task<bool> ProbeAsync(Member other, CancellationToken stop)
    {
        using var deadline = new CancellationTokenSource(_options.ProbeDeadline, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, deadline.Token);
        try
        {
            return await probe.AnswersAsync(other, either.Token);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            return false;
        }
    }

    /// <summary>What this node would change in a view: its own suspicions, and verdicts that are due.</summary>
    private List<ViewChange> Judge(ClusterView view)
    {
        var changes = new List<ViewChange>();
        if (view.Find(self.Node) is not { State: MemberState.Up or MemberState.Leaving })
            return changes; // who is expelled has no say
        foreach (var (node, misses) in _misses)
        {
            bool stands = view.Suspicions.Any(s => s.Node == node && s.By == self.Node);
            if (misses >= _options.MissedProbes && !stands)
                changes.Add(new MemberIsSuspected(node, self.Node));
            else if (misses == 0 && stands)
                changes.Add(new SuspicionIsWithdrawn(node, self.Node));
        }

        foreach (var dead in view.Members.Where(m => m.Node != self.Node && Verdict.IsDead(view, self.Node, m.Node, _options.BeatLimit)))
            changes.Add(new MemberBecomes(dead.Node, MemberState.Dead));
        return changes;
    }

    private void Adopt(ClusterView view)
    {
        ClusterView before;
        lock (_gate)
        {
            before = _view;
            Volatile.Write(ref _view, view);
            if (before.Cluster != view.Cluster || before.Version != view.Version)
            {
                LogView(log, self.Name, view.Version, string.Join(", ", view.Members.Where(static m => !m.IsFinal).Select(static m => $"{m.Name} {m.State}")));
                _listeners?.Invoke(view);
            }
        }

        if (before != NoView && before.Cluster != view.Cluster)
        {
            LogRenewed(log, self.Name, self.Node, view.Cluster);
            _expelled.Cancel();
        }
        else if (view.Find(self.Node) is not { } me || me.State == MemberState.Dead)
        {
            LogExpelled(log, self.Name, self.Node, view.Version);
            _expelled.Cancel();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Node {Name} ({Node}) is in the cluster, view {Version}.")]
    private static partial void LogJoined(ILogger logger, string name, Guid node, long version);

    [LoggerMessage(Level = LogLevel.Information, Message = "Node {Name} sees view {Version}: {Members}.")]
    private static partial void LogView(ILogger logger, string name, long version, string members);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Node {Name} ({Node}) was declared dead in view {Version}; its work ends.")]
    private static partial void LogExpelled(ILogger logger, string name, Guid node, long version);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Node {Name} ({Node}) begins anew: the cluster's store was restarted or went back in time, its id is {Cluster} now.")]
    private static partial void LogRenewed(ILogger logger, string name, Guid node, Guid cluster);

    [LoggerMessage(Level = LogLevel.Error, Message = "Node {Name} has seen view {Known} and the store is at {Version}: it went back in time.")]
    private static partial void LogWentBack(ILogger logger, string name, long known, long version);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Node {Name} cannot reach the view of the cluster: {Error}")]
    private static partial void LogStoreTrouble(ILogger logger, string name, string error);
}
