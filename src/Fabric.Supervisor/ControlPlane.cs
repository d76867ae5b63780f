using System.Collections.Concurrent;
using System.Text;
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Hosts;
using Fabric.Supervisor.Reading;
using Fabric.Supervisor.Routing;
using Fabric.Supervisor.Shards;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor;

/// <summary>
/// One control node: it holds the shards of the journal, runs their supervisors, follows the hosts, and answers operators. What it knows beyond the journal it
/// asks again after a restart. Owns its actors and leases, not the journal and the gateway. All members may be called by any thread.
/// </summary>
public sealed partial class ControlPlane : IControlPlane, IAsyncDisposable
{
    private readonly ControlServices _services;
    private readonly ActorSystem _actors;
    private readonly ShardRegion _region;
    private readonly ShardReader _reader;
    private readonly EvacuationPlanner _planner;
    private readonly ShardMap _map;
    private readonly LeaseKeeper _leases;
    private readonly string _holder;
    private MembershipKeeper? _members; // set by Start
    private readonly ConcurrentDictionary<HostName, Lazy<IActorRef<WatcherMessage>>> _watchers = new();

    /// <param name="journal">Where everything that must outlive this process is kept.</param>
    /// <param name="agents">How agents are asked.</param>
    /// <param name="hosts">The registry that <paramref name="agents"/> finds them by.</param>
    /// <param name="holder">
    /// This node's name, the same after a restart: it then takes its shards back at once, at higher epochs, instead of waiting until its former leases expire.
    /// No two processes may use one name at the same time; if they do, the journal lets only the later one write.
    /// </param>
    /// <param name="time">Wall and monotonic clock.</param>
    /// <param name="random">Seeds jitter and ids; used by this object alone.</param>
    /// <param name="loggers">Where it says what it does.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <param name="dispatcher">Null: the thread pool.</param>
    /// <param name="router">Where batches find the VMs of other nodes' shards; null: this node is the only one.</param>
    public ControlPlane(
        IJournal journal, IAgentGateway agents, HostRegistry hosts, string holder, TimeProvider time, Random random, ILoggerFactory loggers,
        SupervisorOptions? options = null, IDispatcher? dispatcher = null, ShardRouter? router = null)
    {
        ArgumentNullException.ThrowIfNull(random);
        options ??= SupervisorOptions.Default;
#pragma warning disable CA5394 // Jitter and ids, no secrets: tickets come from SupervisorOptions.NewTicket.
        _actors = new ActorSystem(time, new Random(random.Next()), dispatcher ?? new ThreadPoolDispatcher(), loggers);
        var ids = new IdSource(time, new Random(random.Next()));
        var board = new Board(time, options.RegisterWithin);
        _services = new ControlServices(journal, agents, hosts, board, new MovementGate(board), ids, time, loggers, options);
        _planner = new EvacuationPlanner(_services);
        _holder = holder;
        _map = new ShardMap(options.Shards);
        _reader = new ShardReader(_services, _map);
        _region = new ShardRegion(_actors, _services, _map, _reader, router is null ? null : new RoutedStarter(new ClusterPlane(this, router), board, time));
        _leases = new LeaseKeeper(journal, holder, _region, time, new Random(random.Next()), loggers.CreateLogger<LeaseKeeper>(), options.Lease);
#pragma warning restore CA5394
    }

    /// <summary>As the only node: takes all shards, reads them back, and goes on with every unfinished migration and batch.</summary>
    public async Task StartAsync(CancellationToken cancellation)
    {
        foreach (var host in _services.Hosts.All)
            Watch(host.Registration.Name);
        _leases.Place(_map.All.ToHashSet());
        await _leases.SettledAsync(cancellation);
        _services.Board.Open();
    }

    /// <summary>As one of several: takes and leaves shards as the views say, and reads the others' from the journal.</summary>
    public void Start(MembershipKeeper members)
    {
        ArgumentNullException.ThrowIfNull(members);
        foreach (var host in _services.Hosts.All)
            Watch(host.Registration.Name);
        Volatile.Write(ref _members, members);
        _reader.Start(afterRound: () =>
        {
            if (_region.AllRead)
                _services.Board.Open();
        });
        members.Follow(view => _leases.Place(ShardPlacement.Of(view, members.Node, _map)));
    }

    internal Guid NewRequest() => _services.Ids.NewRequest();

    /// <summary>Completes when the shards that are placed here now are held and read, or placed elsewhere.</summary>
    public Task SettledAsync(CancellationToken cancellation) => _leases.SettledAsync(cancellation);

    /// <summary>What was durable before the call, also in other nodes' shards, is shown after it.</summary>
    public Task RefreshAsync(CancellationToken cancellation) => _reader.RefreshAsync(cancellation);

    /// <summary>Leaves all shards and gives them back; the others take them at once.</summary>
    public Task LeaveShardsAsync() => _leases.DisposeAsync().AsTask();

    /// <summary>Stops deciding: leases are given back, running VMs and migrations are left as they are for the next owner.</summary>
    public async ValueTask DisposeAsync()
    {
        await _leases.DisposeAsync();
        await _reader.DisposeAsync();
        await _actors.DisposeAsync();
    }

    public Task RegisterHostAsync(HostRegistration registration, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(registration);
        bool changed = _services.Hosts.Register(registration);
        var watcher = Watch(registration.Name);
        if (changed)
        {
            watcher.TryTell(new AgentReborn(registration.Incarnation));
            _services.Board.Touch();
        }

        return Task.CompletedTask;
    }

    public Task<IReadOnlyList<HostReport>> ListHostsAsync(CancellationToken cancellation) =>
        Task.FromResult<IReadOnlyList<HostReport>>([.. _services.Hosts.All.Select(Report)]);

    public async Task<HostReport> GetHostAsync(HostName host, CancellationToken cancellation)
    {
        var known = await RequireHostAsync(host, cancellation);
        string node = Volatile.Read(ref _members) is { } members && members.View.Find(members.Node) is { } self ? self.Name : _holder;
        return Report(known) with { Details = Reports.Details(known, _services.Board, _services.Hosts.CordonOf(host), node) };
    }

    public async Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation)
    {
        if (reason is { Length: > Limits.ReasonCharacters })
            throw new FabricException(ErrorCodes.InvalidArgument, "The reason is too long.", $"Use at most {Limits.ReasonCharacters} characters.");
        var known = await RequireHostAsync(host, cancellation);
        await _region.SetCordonedAsync(host, cordoned, reason, cancellation);
        return Report(known);
    }

    public async Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Spec.Validate() is { } invalid)
            throw new FabricException(invalid);
        await RequireHostAsync(request.Host, cancellation);
        var vm = await _region.AskVmAsync<VmState>(request.Spec.Name, reply => new CreateAsked(request.Spec, request.Host, reply), cancellation);
        await SeeRunningAsync(request.Spec.Name, request.Host, cancellation);
        return Reports.Of(vm, _services.Board);
    }

    /// <summary>The agent answered that the VM runs; its facts say so a moment later, and what comes next (a migration) is judged by them.</summary>
    private async Task SeeRunningAsync(VmName vm, HostName host, CancellationToken cancellation)
    {
        var seen = new TaskCompletionSource();
        using var whenHost = _services.Board.Subscribe(Board.HostTopic(host), Look);
        using var whenVm = _services.Board.Subscribe(Board.HostVmTopic(host, vm), Look);
        Look();
        await seen.Task.WaitAsync(SeeDeadline, _services.Time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        cancellation.ThrowIfCancellationRequested();

        void Look()
        {
            if (_services.Board.Host(host).Vm(vm) is { State: Migration.VmRunState.Running })
                seen.TrySetResult();
        }
    }

    private static readonly TimeSpan SeeDeadline = TimeSpan.FromSeconds(2);

    public Task<IReadOnlyList<VmReport>> ListVmsAsync(CancellationToken cancellation) => Task.FromResult<IReadOnlyList<VmReport>>(
        [.. _services.Board.Vms.Where(static vm => vm.Status != VmStatus.Absent)
            .OrderBy(static vm => vm.Name.Value, StringComparer.Ordinal)
            .Select(vm => Reports.Of(vm, _services.Board))]);

    public Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation)
    {
        RequireVmHere(vm);
        return _region.AskVmAsync<VmState>(vm, reply => new DeleteAsked(force, reply), cancellation);
    }

    public async Task<ConsoleChunk> ReadConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation)
    {
        if (offset < 0 || most is < 1 or > Limits.ControlMessageBytes)
            throw new FabricException(ErrorCodes.InvalidArgument, $"Cannot read {most} bytes of a console from {offset}.", $"Offset is 0 or more, most is 1 to {Limits.ControlMessageBytes}.");
        var known = RequireVm(vm);
        // In a migration both hosts have a console of the VM; the owner's is the one that goes on.
        byte[] bytes = await _services.Agents.ConsoleAsync(known.Owner!.Value, vm, offset, most, cancellation)
            ?? throw new FabricException(ErrorCodes.NotFound, $"Host '{known.Owner}' has no console of VM '{vm}'.", $"fabric vm show {vm}");
        int whole = WholeCharacters(bytes);
        return new ConsoleChunk(offset, offset + whole, Encoding.UTF8.GetString(bytes, 0, whole));
    }

    public Task<long> WaitChangeAsync(long after, TimeSpan wait, CancellationToken cancellation) =>
        _services.Board.WaitAsync(after, wait < TimeSpan.Zero ? TimeSpan.Zero : wait > MostWait ? MostWait : wait, cancellation);

    private static readonly TimeSpan MostWait = TimeSpan.FromSeconds(60);

    private HostReport Report(RegisteredHost host) =>
        Reports.Of(_services.Hosts.Find(host.Registration.Name) ?? host, _services.Board, _services.Hosts.IsCordoned(host.Registration.Name));

    private IActorRef<WatcherMessage> Watch(HostName host) => _watchers.GetOrAdd(
        host,
        name => new Lazy<IActorRef<WatcherMessage>>(() => _actors.Spawn(
            $"watch-{name}", () => new HostWatcher(_services, name, _region.HostShows), new ActorOptions { MaxRestarts = int.MaxValue, MailboxCapacity = 64 }))).Value;

    /// <summary>A node that was started a moment ago waits until the host has registered with it too.</summary>
    private async Task<RegisteredHost> RequireHostAsync(HostName host, CancellationToken cancellation)
    {
        long begun = _services.Time.GetTimestamp();
        while (true)
        {
            long version = _services.Board.Version;
            if (_services.Hosts.Find(host) is { } known)
                return known;
            var unknown = _services.Board.UnknownHost(host);
            if (unknown.Code != ErrorCodes.Unreachable || _services.Time.GetElapsedTime(begun) > 2 * _services.Options.RegisterWithin)
                throw new FabricException(unknown);
            await _services.Board.WaitAsync(version, _services.Options.RegisterWithin, cancellation);
        }
    }

    /// <summary>A shard that is still being read is as one that nobody holds: whoever can ask another node does.</summary>
    private VmState RequireVm(VmName vm)
    {
        if (_services.Board.Vm(vm) is { Status: not VmStatus.Absent } known)
            return known;
        var missing = Missing("vm/" + vm, $"There is no VM '{vm}'.", "fabric vm list").Error;
        throw new FabricException(missing.Code == ErrorCodes.Unreachable ? missing with { Code = ErrorCodes.NotHeld } : missing);
    }

    /// <summary>
    /// For commands, which say "not found" only where the shard is held: a reading of another's shard is up to <see cref="ShardRegion.OldestReading"/> old, and whoever deletes
    /// a VM takes that answer as the end of it.
    /// </summary>
    private void RequireVmHere(VmName vm)
    {
        _region.RequireRead("vm/" + vm);
        RequireVm(vm);
    }

    /// <summary>"Not found" is a statement about the journal: before it was read nobody can make it.</summary>
    private FabricException Missing(string? key, string message, string hint) =>
        new(_region.Unread(key) ?? new FabricError(ErrorCodes.NotFound, message, hint));

    /// <summary>Bytes up to the last whole UTF-8 character, so that a character that is still being written is read whole the next time. All, if none is whole.</summary>
    private static int WholeCharacters(byte[] bytes)
    {
        for (int back = 1; back <= Math.Min(3, bytes.Length); back++)
        {
            byte b = bytes[^back];
            if ((b & 0xC0) == 0x80)
                continue;
            int length = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : b >= 0xC0 ? 2 : 1;
            return length > back && bytes.Length > back ? bytes.Length - back : bytes.Length;
        }

        return bytes.Length;
    }
}
