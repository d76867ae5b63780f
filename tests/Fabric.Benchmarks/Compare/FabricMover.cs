using Fabric.Benchmarks.Moving;
using Fabric.Benchmarks.Qemu;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Compare;

/// <summary>
/// Moves the guest as an operator would: a control node and two hosts, each a process of its own, over the HTTP API. The cluster lives
/// as long as this mover; every move has a fresh guest.
/// <para>
/// Total time is read from the journal, which is what Fabric itself answers for: from <c>destination-prepared</c> (the destination's QEMU waits) to
/// <c>pull-completed</c> (the guest runs there and nothing is missing). The checksum of every frame is compared meanwhile.
/// </para>
/// </summary>
public sealed class FabricMover(TimeProvider time) : IMover, IAsyncDisposable
{
    private static readonly TimeSpan BootDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan MoveDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan MeasureDeadline = TimeSpan.FromSeconds(20);
    private static readonly HostName Source = HostName.Parse("alpha");
    private static readonly HostName Destination = HostName.Parse("beta");

    private LocalCluster? _cluster;
    private int _guests;

    public string Name => "fabric";

    public string? Unavailable { get; } = Lacking();

    public Task<MoveResult> MoveAsync(GuestImage guest, MoveMode mode, CancellationToken cancellation) => MoveAsync(Name, guest, mode, MigrationOptions.Default, cancellation);

    /// <param name="name">For the result.</param>
    /// <param name="options">All but the mode.</param>
    /// <param name="balloon">The guest's own balloon loop, which is waited for until it has nothing more to take.</param>
    public async Task<MoveResult> MoveAsync(string name, GuestImage guest, MoveMode mode, MigrationOptions options, CancellationToken cancellation, BalloonSpec? balloon = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        try
        {
            var cluster = _cluster ??= await StartAsync(cancellation);
            using var client = new ControlClient(cluster.ApiUrl);
            var vm = VmName.Parse($"guest-{++_guests}");
            await client.CreateVmAsync(new CreateVmRequest(Spec(vm, guest) with { Balloon = balloon }, Source), cancellation);
            try
            {
                return await MeasureAsync(name, cluster, client, vm, mode, options, balloon, cancellation);
            }
            finally
            {
                await client.DeleteVmAsync(vm, force: true, CancellationToken.None);
            }
        }
        catch (FabricException error)
        {
            return MoveResult.Failed(name, mode, error.Message);
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
        string name, LocalCluster cluster, ControlClient client, VmName vm, MoveMode mode, MigrationOptions options, BalloonSpec? balloon, CancellationToken cancellation)
    {
        string[] consoles = [Console(cluster, Source, vm), Console(cluster, Destination, vm)];
        long lastBeat = await GuestConsole.WaitAsync(consoles, static log => log.IsWorkloadReady ? GuestConsole.SettledBeat(log) : null, BootDeadline, time, cancellation)
            ?? throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest was not ready within {BootDeadline.TotalSeconds:0} s.");
        if (balloon is not null)
            await TakenAsync(cluster, vm, balloon, cancellation);
        var asked = options with { Mode = mode == MoveMode.PreCopy ? MigrationMode.PreCopy : MigrationMode.PostCopy };
        var ended = await Moves.EndedAsync(client, new MigrateRequest(vm, Destination, asked, Guid.NewGuid()), MoveDeadline, time, cancellation);
        if (ended.State != "completed")
            return MoveResult.Failed(name, mode, $"{ended.State}: {ended.Error?.Message}");
        var (seen, clean) = await GuestConsole.ViewAsync(consoles, lastBeat, MeasureDeadline, time, cancellation);
        double total = await TotalAsync(cluster, ended.Id, cancellation);
        return new MoveResult(
            name, mode, total, ended.DowntimeMs ?? throw new FabricException(ErrorCodes.Corrupt, "The migration's record has no downtime."), ended.DowntimeMs, seen?.StoppedMs, seen?.LargestGapMs, ended.Memory.WireBytes, ended.Rounds, ended.Verified, clean,
            Parts: AgentLog.HandOver(cluster, Source, vm));
    }

    /// <summary>Returns when the loop has asked for something and then, three times, for nothing more.</summary>
    private async Task TakenAsync(LocalCluster cluster, VmName vm, BalloonSpec balloon, CancellationToken cancellation)
    {
        for (long began = time.GetTimestamp(); time.GetElapsedTime(began) < BootDeadline; await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellation))
        {
            if (AgentLog.BalloonOrders(cluster, Source, vm) is [.., var last] && time.GetUtcNow() - last > 3 * balloon.Interval())
                return;
        }

        throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest's balloon did not settle within {BootDeadline.TotalSeconds:0} s.");
    }

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
        var options = new LocalClusterOptions { Directory = directory, Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable), Hosts = 2, Ephemeral = true };
        var cluster = LocalCluster.Create(options, time, new Random());
        _cluster = cluster;
        await cluster.StartAsync(cancellation);
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
