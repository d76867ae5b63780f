using System.Globalization;
using Fabric.Core;
using Fabric.Native;
using Fabric.Wire.Api;

namespace Fabric.Cli.Local;

/// <summary>
/// Control nodes and hosts as processes of this machine: what <c>fabric up</c>, the demo and the tests with real processes run on.
/// <para>
/// Layout: <c>cluster.json</c>; per member a directory with <c>config.yaml</c>, <c>fabricd.log</c> and <c>state/</c>; guests' memory in
/// files of the memory directory whose names begin with the cluster's own prefix. Every process is known by pid and start time from before
/// it is waited for, so whatever happens <see cref="DownAsync"/> finds it.
/// </para>
/// Not safe for concurrent use; other processes see it through <c>cluster.json</c>.
/// </summary>
public sealed partial class LocalCluster
{
    /// <summary>Characters of the cluster's directory and a host's name together: 107 of a socket's path less what machines need below the host's directory.</summary>
    private const int LongestPath = 59;

    private readonly LocalClusterOptions _options;
    private readonly TimeProvider _time;
    private readonly Lock _keeping = new();
    private readonly ClusterTopology? _plan; // what members' files are written from; null in a process that did not make the cluster
    private ClusterRecord _record; // replaced under _keeping

    private LocalCluster(LocalClusterOptions options, ClusterTopology? plan, TimeProvider time, ClusterRecord record)
    {
        _options = options;
        _plan = plan;
        _time = time;
        _record = record;
    }

    public string Directory => _options.Directory;

    public ClusterRecord Record => _record;

    /// <summary>The operators' API.</summary>
    public Uri ApiUrl => _record.ApiUrl ?? throw new InvalidOperationException("The cluster has not started.");

    /// <summary>The operators' API of each control node, in the order of <see cref="Controls"/>.</summary>
    public IReadOnlyList<Uri> ApiUrls => _record.ApiUrls ?? (_record.ApiUrl is { } one ? [one] : []);

    public IReadOnlyList<string> Controls => [.. _record.Members.Where(m => m.Role == "control").Select(m => m.Name)];

    public IReadOnlyList<string> Hosts => [.. _record.Members.Where(m => m.Role == "host").Select(m => m.Name)];

    /// <summary>Makes the directory and the record; nothing runs yet. Call <see cref="DownAsync"/> after this, whatever happens.</summary>
    /// <exception cref="FabricException">conflict: a cluster is there already; invalid-argument: the directory cannot be used; unsupported: there can be no PostgreSQL server here.</exception>
    public static LocalCluster Create(LocalClusterOptions options, TimeProvider time, Random random)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(time);
        ArgumentNullException.ThrowIfNull(random);
        var plan = options.Topology ?? ClusterTopology.Of(options.Controls, options.Hosts, options.Database);
        if (!Path.IsPathFullyQualified(options.Directory) || options.Directory.Length > 48 || options.Directory.Any(c => c is ',' or '"' || char.IsControl(c)))
            throw new FabricException(ErrorCodes.InvalidArgument, $"The directory '{Label.Shorten(options.Directory)}' cannot hold a cluster.", "Use an absolute path of at most 48 characters without commas: --dir /tmp/fabric");
        if (plan.Hosts.MaxBy(static h => h.Name.Length) is { } longest && options.Directory.Length + longest.Name.Length > LongestPath)
            throw new FabricException(ErrorCodes.InvalidArgument, $"The directory '{Label.Shorten(options.Directory)}' and the host's name '{longest.Name}' are too long together for Unix sockets.", $"They may have {LongestPath} characters.");
        if (ClusterFile.Read(options.Directory) is not null)
            throw new FabricException(ErrorCodes.Conflict, $"There is a cluster in '{options.Directory}' already.", "Use it, or take it down with 'fabric down'.");
        string id = random.NextInt64(1L << 32).ToString("x8", CultureInfo.InvariantCulture);
        var store = plan.Store is ManagedPostgresStore ? PlaceStore(options.Directory, id) : null;
        MemberConfig.MakeDirectory(options.Directory);
        if (store is not null && Environment.IsPrivilegedProcess)
            File.SetUnixFileMode(options.Directory, File.GetUnixFileMode(options.Directory) | UnixFileMode.OtherExecute); // the server's user passes; members' directories stay closed
        List<MemberRecord> members = [.. plan.Controls.Select(static c => new MemberRecord(c, "control", null)), .. plan.Hosts.Select(static h => new MemberRecord(h.Name, "host", null))];
        var record = new ClusterRecord(ClusterFile.Version, id, null, options.MemoryDirectory, $"fabric-{id}-", members, time.GetUtcNow(), Name: plan.Name, Store: store);
        ClusterFile.Write(options.Directory, record);
        return new LocalCluster(options, plan, time, record);
    }

    /// <summary>The cluster that <c>cluster.json</c> in a directory describes; null when there is none.</summary>
    public static LocalCluster? Open(LocalClusterOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        return ClusterFile.Read(options.Directory) is { } record ? new LocalCluster(options, null, time, record) : null;
    }

    /// <summary>Starts the cluster's own server if it has one, the control nodes, then all hosts at once; returns when every host takes work.</summary>
    /// <exception cref="FabricException">machine-failed or deadline-exceeded, with the end of the log of the member that failed.</exception>
    public async Task StartAsync(CancellationToken cancellation)
    {
        if (_record.Store is not null)
            await MakeStoreAsync(cancellation);

        // One after the other: the first makes the store.
        foreach (string name in Controls)
        {
            var control = await StartAsync(name, cancellation);
            Keep(record => record with { ApiUrl = record.ApiUrl ?? control.ApiUrl, ApiUrls = [.. record.ApiUrls ?? [], control.ApiUrl!] });
        }

        await Task.WhenAll(Hosts.Select(host => StartAsync(host, cancellation)));
        await WaitForHostsAsync(cancellation);
    }

    /// <summary>Starts one stopped or killed member again on its old state and ports; returns when it serves.</summary>
    public async Task<MemberUrls> StartAsync(string member, CancellationToken cancellation)
    {
        var record = Member(member);
        if (record.Process is { } old && old.IsAlive())
            throw new FabricException(ErrorCodes.Conflict, $"Member '{member}' runs already (pid {old.ProcessId}).");
        var process = Launch(record);
        using (process)
        {
            Keep(now => now with { Members = [.. now.Members.Select(m => m.Name == member ? m with { Process = process.Identity } : m)] });
            var ready = await WaitForReadyAsync(member, process, cancellation);
            return new MemberUrls(ready.ApiUrl, ready.ClusterUrl, ready.AgentUrl);
        }
    }

    /// <summary>SIGKILL, as a crash: its guests run on. Returns when the process is gone.</summary>
    public Task KillAsync(string member, CancellationToken cancellation) => EndAsync(member, kill: true, cancellation);

    /// <summary>SIGTERM, as an upgrade: its guests run on. Returns when the process is gone.</summary>
    public Task StopAsync(string member, CancellationToken cancellation) => EndAsync(member, kill: false, cancellation);

    /// <summary>The process of a member while it lives.</summary>
    public ProcessIdentity? ProcessOf(string member) => Member(member).Process is { } process && process.IsAlive() ? process : null;

    /// <summary>The directory that a member keeps its state in.</summary>
    public string StateOf(string member) => MemberConfig.State(Directory, Member(member).Name);

    /// <summary>The file that a member's daemon logs to.</summary>
    public string LogOf(string member) => MemberConfig.Log(Directory, Member(member).Name);

    /// <summary>The end of a member's log: what to show when it failed.</summary>
    public string LogTail(string member, int lines = 15)
    {
        try
        {
            return string.Join('\n', File.ReadLines(MemberConfig.Log(Directory, member)).TakeLast(lines).Select(l => "  | " + (l.Length <= 400 ? l : l[..400] + "…")));
        }
        catch (IOException)
        {
            return "  | (no log)";
        }
    }

    /// <summary>The last whole lines of a member's log; empty when there is none.</summary>
    public IReadOnlyList<string> LogLines(string member, int lines)
    {
        string log = MemberConfig.Log(Directory, member);
        return File.Exists(log) ? [.. File.ReadLines(log).TakeLast(lines)] : [];
    }

    private MemberRecord Member(string name) => _record.Members.FirstOrDefault(m => m.Name == name)
        ?? throw new FabricException(ErrorCodes.NotFound, $"The cluster has no member '{name}'.", "Members: " + string.Join(", ", _record.Members.Select(m => m.Name)));

    // Hosts are started by several tasks at once.
    private void Keep(Func<ClusterRecord, ClusterRecord> change)
    {
        lock (_keeping)
        {
            _record = change(_record);
            ClusterFile.Write(Directory, _record);
        }
    }

    private ProcessHandle Launch(MemberRecord member)
    {
        string config = MemberConfig.File(Directory, member.Name);
        MemberConfig.MakeDirectory(MemberConfig.Root(Directory, member.Name));
        System.IO.Directory.CreateDirectory(MemberConfig.State(Directory, member.Name));
        if (!File.Exists(config))
            MemberConfig.WriteSecret(config, ConfigOf(member));
        File.Delete(Path.Combine(MemberConfig.State(Directory, member.Name), "ready.json"));
        return DaemonProgram.Start(PlaceOf(member).Enter, _options.Daemon, ["--config", config, .. _options.Settings.SelectMany(s => (string[])["--set", s])],
            MemberConfig.Log(Directory, member.Name), _options.Environment);
    }

    private MemberPlace PlaceOf(MemberRecord member) => _options.Places.GetValueOrDefault(member.Name, MemberPlace.Here);

    private string ConfigOf(MemberRecord member)
    {
        if (_plan is null)
            throw new FabricException(ErrorCodes.Conflict, $"Member '{member.Name}' was never started, and only the process that made the cluster could.", "fabric down, then fabric up again.");
        var owner = _options.Ephemeral ? ProcessIdentity.Of(Environment.ProcessId) : null;
        if (member.Role == "control")
            return MemberConfig.Control(Directory, member.Name, PlaceOf(member), MemberConfig.Store(Directory, Controls.Count, StoreConnection()), _plan.Limits, owner);
        var controls = Controls.Select(name => ReadyFile.Read(StateOf(name))?.ClusterUrl).OfType<Uri>().ToList();
        if (controls.Count == 0)
            throw new FabricException(ErrorCodes.Unreachable, "No control node serves, so that no host can be started.");
        var host = _plan.Hosts.First(h => h.Name == member.Name);
        return MemberConfig.Host(Directory, host, PlaceOf(member), controls, Path.Combine(_record.MemoryDirectory, _record.MemoryPrefix + member.Name), owner);
    }

    private async Task<ReadyFile> WaitForReadyAsync(string member, ProcessHandle process, CancellationToken cancellation)
    {
        ReadyFile? found = null;
        await UntilAsync(
            _ =>
            {
                bool ended = process.HasExited;
                if (ReadyFile.Read(StateOf(member)) is { } ready && ready.Pid == process.Identity.ProcessId)
                    found = ready;
                else if (ended)
                    throw new FabricException(ErrorCodes.MachineFailed, $"fabricd of '{member}' ended before it served. The end of its log:\n{LogTail(member)}", $"All of it: {MemberConfig.Log(Directory, member)}");
                return Task.FromResult(found is not null);
            },
            TimeSpan.FromMilliseconds(25),
            () => new FabricException(
                ErrorCodes.DeadlineExceeded, $"fabricd of '{member}' did not serve within {_options.StartWithin.TotalSeconds:0} s. The end of its log:\n{LogTail(member)}", $"All of it: {MemberConfig.Log(Directory, member)}"),
            cancellation);
        return found!;
    }

    private async Task WaitForHostsAsync(CancellationToken cancellation)
    {
        using var client = new ControlClient(ApiUrl);
        IReadOnlyList<string> missing = Hosts;
        await UntilAsync(
            async token =>
            {
                var ready = (await client.HostsAsync(token)).Where(h => h.State == "ready").Select(h => h.Name.Value).ToHashSet(StringComparer.Ordinal);
                missing = [.. Hosts.Where(h => !ready.Contains(h))];
                return missing.Count == 0;
            },
            TimeSpan.FromMilliseconds(100),
            () => new FabricException(
                ErrorCodes.DeadlineExceeded, $"Not all hosts registered within {_options.StartWithin.TotalSeconds:0} s: {string.Join(", ", missing)}. The end of the log of '{missing[0]}':\n{LogTail(missing[0])}"),
            cancellation);
    }

    private async Task EndAsync(string member, bool kill, CancellationToken cancellation)
    {
        if (Member(member).Process is not { } identity)
            return;
        using var process = ProcessHandle.TryOpen(identity);
        if (process is null)
            return;
        if (kill)
            process.SendKill();
        else
            process.SendTerminate();
        using var watch = new DeathWatch();
        await watch.WhenExited(process).WaitAsync(TimeSpan.FromSeconds(15), _time, cancellation);
    }
}

/// <summary>Where a member serves; null for a role that it does not have.</summary>
public sealed record MemberUrls(Uri? ApiUrl, Uri? ClusterUrl, Uri? AgentUrl);
