using Fabric.Benchmarks.Lab;
using Fabric.Benchmarks.Moving;
using Fabric.Benchmarks.Qemu;
using Fabric.Cli;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Compare;

/// <summary>
/// Moves the guest as an operator would: a control node and two hosts, each a process of its own, over the HTTP API. The hosts are in the laboratory where there is one. The cluster lives
/// as long as this mover; every move has a fresh guest.
/// <para>
/// Total time is read from the journal, which is what Fabric itself answers for: from <c>destination-prepared</c> (the destination's QEMU waits) to
/// <c>pull-completed</c> (the guest runs there and nothing is missing). The checksum of every frame is compared meanwhile.
/// </para>
/// </summary>
/// <param name="lab">The caller's, with both hosts; null: loopback.</param>
/// <param name="time">The clock.</param>
public sealed class FabricMover(LinkLab? lab, TimeProvider time) : IMover, IAsyncDisposable
{
    private static readonly TimeSpan BootDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan CallOffDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan MeasureDeadline = TimeSpan.FromSeconds(20);

    private LocalCluster? _cluster;
    private int _guests;

    public string Name => Bars.Own;

    public string? Unavailable { get; } = Lacking();

    public bool Knows(MoveMode mode) => true;

    public Task<MoveResult> MoveAsync(PlannedMove move, CancellationToken cancellation) => MoveAsync(Name, move, MigrationOptions.Default, cancellation);

    /// <param name="name">For the result.</param>
    /// <param name="move">What is to be done.</param>
    /// <param name="options">All but the mode.</param>
    /// <param name="cancellation">Ends it; the guest is removed all the same.</param>
    public async Task<MoveResult> MoveAsync(string name, PlannedMove move, MigrationOptions options, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(move);
        ArgumentNullException.ThrowIfNull(options);
        try
        {
            var cluster = _cluster ??= await StartAsync(cancellation);
            using var warm = new WarmMemory(move.Guest.MemoryBytes);
            using var client = new ControlClient(cluster.ApiUrl);
            var vm = VmName.Parse($"guest-{++_guests}");
            await client.CreateVmAsync(new CreateVmRequest(Spec(vm, move.Guest) with { Balloon = move.Balloon }, Pair.Source), cancellation);
            try
            {
                return await MeasureAsync(name, cluster, client, vm, move, options with { Mode = ModeOf(move.Mode) }, warm, cancellation);
            }
            finally
            {
                await CallOffAsync(client, vm);
                await client.DeleteVmAsync(vm, force: true, CancellationToken.None);
            }
        }
        catch (FabricException error)
        {
            return MoveResult.Failed(name, move.Mode, error.Message);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not { } cluster)
            return;
        await cluster.DownAsync(static _ => { }, CancellationToken.None);
        if (Directory.Exists(cluster.Directory))
            Directory.Delete(cluster.Directory, recursive: true);
    }

    private async Task<MoveResult> MeasureAsync(
        string name, LocalCluster cluster, ControlClient client, VmName vm, PlannedMove move, MigrationOptions asked, WarmMemory warm, CancellationToken cancellation)
    {
        string[] consoles = [Console(cluster, Pair.Source, vm), Console(cluster, Pair.Destination, vm)];
        await using var work = new WorkWatch(consoles, time);
        long lastBeat = await GuestConsole.WaitAsync(consoles, static log => log.IsWorkloadReady ? GuestConsole.SettledBeat(log) : null, BootDeadline, time, cancellation)
            ?? throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest was not ready within {BootDeadline.TotalSeconds:0} s.");
        if (move.Balloon is { } balloon)
            await TakenAsync(cluster, vm, balloon, cancellation);
        await work.SettledAsync(cancellation);
        warm.Dispose();
        var start = work.Now;
        MigrationReport ended;
        try
        {
            ended = await Moves.EndedAsync(client, new MigrateRequest(vm, Pair.Destination, asked, Guid.NewGuid()), move.Within, time, cancellation);
        }
        catch (FabricException late) when (late.Error.Code == ErrorCodes.DeadlineExceeded)
        {
            return MoveResult.Endless(name, move.Mode, move.Within);
        }

        if (ended.State != MigrationStates.Completed)
            return MoveResult.Failed(name, move.Mode, $"{ended.State}: {ended.Error?.Message}");
        var (seen, sound) = await GuestConsole.ViewAsync(consoles, lastBeat, MeasureDeadline, time, cancellation);
        var lost = move.Window > TimeSpan.Zero ? await work.LostAsync(start, move.Window, cancellation) : null;
        double total = await TotalAsync(cluster, ended.Id, cancellation);
        double downtime = ended.DowntimeMs ?? throw new FabricException(ErrorCodes.Corrupt, "The migration's record has no downtime.");
        return new MoveResult(
            name, move.Mode, total, downtime, downtime, seen?.StoppedMs, seen?.LargestGapMs, LostWorkMs: null, ended.Memory.WireBytes, ended.Rounds,
            ended.Verified, sound, Parts: AgentLog.HandOver(cluster, Pair.Source, vm)).After(lost, GuestConsole.Read(consoles).IsClean);
    }

    /// <summary>Returns when the loop has asked for something and then, three times, for nothing more.</summary>
    private async Task TakenAsync(LocalCluster cluster, VmName vm, BalloonSpec balloon, CancellationToken cancellation)
    {
        for (long began = time.GetTimestamp(); time.GetElapsedTime(began) < BootDeadline; await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellation))
        {
            if (AgentLog.BalloonOrders(cluster, Pair.Source, vm) is [.., var last] && time.GetUtcNow() - last > 3 * balloon.Interval())
                return;
        }

        throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest's balloon did not settle within {BootDeadline.TotalSeconds:0} s.");
    }

    /// <summary>A guest is deleted when nothing moves it: a migration that did not end in its time, or was interrupted, is aborted, and one that is past that is waited for.</summary>
    private async Task CallOffAsync(ControlClient client, VmName vm)
    {
        using var deadline = new CancellationTokenSource(CallOffDeadline, time);
        try
        {
            var asked = new HashSet<MigrationId>();
            for (long version = 0; (await client.MigrationsAsync(deadline.Token)).FirstOrDefault(m => m.Vm == vm && !MigrationStates.IsFinal(m)) is { } open;)
            {
                if (asked.Add(open.Id))
                    await client.AbortAsync(open.Id.ToString(), "the benchmark does not wait any longer", deadline.Token);
                version = await client.WaitChangeAsync(version, TimeSpan.FromMilliseconds(500), deadline.Token);
            }
        }
        catch (Exception unable) when (unable is FabricException or OperationCanceledException)
        {
            // The deletion that follows is by force, and says what is wrong.
        }
    }

    private static MigrationMode ModeOf(MoveMode mode) => mode switch
    {
        MoveMode.PreCopy => MigrationMode.PreCopy,
        MoveMode.PostCopy => MigrationMode.PostCopy,
        _ => MigrationMode.Auto,
    };

    private async Task<double> TotalAsync(LocalCluster cluster, MigrationId id, CancellationToken cancellation)
    {
        // A copy: the control node's own files are not opened by anybody else. Nothing is written at this moment.
        string copy = Directory.CreateTempSubdirectory("fabric-journal-").FullName;
        foreach (string file in Directory.EnumerateFiles(cluster.StateOf("control"), "journal.db*"))
            File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
        await using var journal = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = Path.Combine(copy, "journal.db") }, time, new Random(), cancellation);
        var records = await journal.ReadAsync(new StreamId($"migration/{id}"), 0, 100, cancellation);
        var events = records.Select(r => EventCodec.Catalog.Decode(r.Kind, r.Version, r.Payload).Event).ToList();
        Directory.Delete(copy, recursive: true);
        if (events.OfType<DestinationPrepared>().FirstOrDefault() is not { } prepared || events.OfType<PullCompleted>().FirstOrDefault() is not { } complete)
            throw new FabricException(ErrorCodes.Corrupt, $"The journal tells of {string.Join(", ", records.Select(r => r.Kind))}.");
        return (complete.At - prepared.At).TotalMilliseconds;
    }

    private async Task<LocalCluster> StartAsync(CancellationToken cancellation)
    {
        string directory = Directory.CreateTempSubdirectory("fabric-cmp-").FullName;
        var topology = ClusterTopology.Of(controls: 1, hosts: Pair.Hosts.Count, database: null);
        var options = new LocalClusterOptions { Directory = directory, Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable), Topology = topology, Ephemeral = true };
        if (lab is not null)
            options = options with { Places = lab.Places(topology.Controls) };
        var cluster = LocalCluster.Create(options, time, new Random());
        _cluster = cluster;
        await cluster.StartAsync(cancellation);
        await cluster.WaitUntilReadyAsync(cancellation);
        return cluster;
    }

    private static VmSpec Spec(VmName vm, GuestImage guest) => new()
    {
        Name = vm,
        MemoryBytes = guest.MemoryBytes,
        Kernel = guest.Kernel,
        Initrd = guest.Initrd,
        Append = guest.Append,
        Accelerator = guest.Accelerator == "kvm" ? Accelerator.Kvm : Accelerator.Tcg,
    };

    private static string Console(LocalCluster cluster, HostName host, VmName vm) => Path.Combine(cluster.StateOf(host.Value), "console", $"{vm}.log");

    private static string? Lacking() => Preflight.WhyNot(Preflight.Run(new PreflightOptions()));
}
