using System.Globalization;
using Fabric.Chaos.Rows;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Integration.EndToEnd;
using Fabric.Integration.Guests;
using Fabric.Integration.Postgres;
using Fabric.Native;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Chaos.Cluster;

/// <summary>
/// Real fabricd processes, one of them or three control nodes over PostgreSQL, whose steps come by <see cref="Steps"/>, for all rows of a class. A row that fails has the
/// cluster made anew, so that it cannot make the next one fail.
/// </summary>
public class ChaosCluster : IAsyncLifetime
{
    /// <summary>Of one question to a control node: one that was killed refuses at once, one that is frozen never answers.</summary>
    private static readonly TimeSpan AnswerWithin = TimeSpan.FromSeconds(20);

    private readonly int _controls;
    private readonly bool _postgres;
    private Parts? _parts;
    private int _vms;
    private string? _frozen;

    public ChaosCluster()
        : this(controls: 1, postgres: false)
    {
    }

    private protected ChaosCluster(int controls, bool postgres) => (_controls, _postgres) = (controls, postgres);

    /// <summary>Why nothing can be run here, or null.</summary>
    internal static string? Unavailable { get; } = Preflight.WhyNot(Preflight.Run(new PreflightOptions { MemoryBytes = 0 }));

    /// <summary>Why nothing can be run on a cluster of this kind, or null.</summary>
    private protected virtual string? Lacking => Unavailable;

    internal LocalCluster Local => Now.Local;

    internal StepSocket Steps => Now.Steps;

    /// <summary>What the control nodes keep their journal in.</summary>
    internal TemporaryPostgres Postgres => Now.Postgres ?? throw new InvalidOperationException("This cluster has none.");

    internal string Database => Now.Database ?? throw new InvalidOperationException("This cluster has none.");

    /// <summary>An image that boots into the guest which is its own oracle.</summary>
    internal string Disk => Path.Combine(Now.Directory, "disk.img");

    private Parts Now => _parts ?? throw new InvalidOperationException("The cluster is not up.");

    private IEnumerable<string> Members => Local.Controls.Concat(Local.Hosts);

    public Task InitializeAsync() => Task.CompletedTask;

    public Task DisposeAsync() => DownAsync();

    internal string NextVm() => string.Create(CultureInfo.InvariantCulture, $"c{++_vms}");

    /// <summary>Runs a test on the cluster. One that fails shows the ends of all logs, and has the cluster made anew.</summary>
    internal async Task RunAsync(TimeSpan within, Action<string> say, Func<CancellationToken, Task> test)
    {
        Skip.IfNot(Lacking is null, Lacking);
        using var deadline = new CancellationTokenSource(within, TimeProvider.System);
        try
        {
            await UpAsync(deadline.Token);
            await test(deadline.Token);
        }
        catch
        {
            if (_parts is not null)
            {
                foreach (string machine in Machines())
                    say(machine);
                foreach (string member in Members)
                    say($"{member}:\n{Local.LogTail(member, 60)}");
            }

            await DownAsync();
            throw;
        }
    }

    internal async Task UpAsync(CancellationToken cancellation)
    {
        if (_parts is not null)
            return;
        string directory = Directory.CreateTempSubdirectory("fc-").FullName;
        string socket = Path.Combine(directory, "steps");
        var postgres = _postgres ? await TemporaryPostgres.StartAsync() : null;
        var steps = new StepSocket(socket);
        var options = new LocalClusterOptions
        {
            Directory = Path.Combine(directory, "c"),
            Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable),
            Hosts = 2,
            Controls = _controls,
            Database = postgres is null ? null : await postgres.TakeDatabaseAsync(),
            Ephemeral = true,
            Environment = new Dictionary<string, string>(HastyDaemons.Environment, StringComparer.Ordinal) { ["FABRIC_STEPS"] = socket },
        };
        var local = LocalCluster.Create(options, TimeProvider.System, new Random());
        try
        {
            await local.StartAsync(cancellation);
        }
        catch
        {
            await local.DownAsync(static _ => { }, CancellationToken.None);
            await steps.DisposeAsync();
            if (postgres is not null)
                await postgres.DisposeAsync();
            Directory.Delete(directory, recursive: true);
            throw;
        }

        _parts = new Parts(directory, local, steps, [.. local.ApiUrls.Select(static url => new ControlClient(url))], postgres, options.Database);
        await File.WriteAllBytesAsync(Disk, BootBlock.Image(Outside.RangeEnd, waits: true), cancellation);
    }

    /// <summary>Takes everything down; fails when something is left.</summary>
    internal async Task DownAsync()
    {
        if (_parts is not { } parts)
            return;
        _parts = null;
        _frozen = null;
        parts.Steps.OnStep = static _ => Task.CompletedTask;
        var left = await parts.Local.DownAsync(static _ => { }, CancellationToken.None);
        foreach (var client in parts.Clients)
            client.Dispose();
        await parts.Steps.DisposeAsync();
        if (parts.Postgres is not null)
            await parts.Postgres.DisposeAsync();
        if (left.Count == 0)
            Directory.Delete(parts.Directory, recursive: true);
        Assert.Empty(left);
    }

    /// <summary>Asks the first control node that lives.</summary>
    internal Task<T> AskAsync<T>(Func<ControlClient, CancellationToken, Task<T>> question, CancellationToken cancellation) => AskAsync(question, AnswerWithin, cancellation);

    internal async Task<T> AskAsync<T>(Func<ControlClient, CancellationToken, Task<T>> question, TimeSpan within, CancellationToken cancellation)
    {
        int at = Local.Controls.TakeWhile(name => name == _frozen || Local.ProcessOf(name) is null).Count();
        using var deadline = new CancellationTokenSource(within, TimeProvider.System);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            return await question(Now.Clients[at % Now.Clients.Count], either.Token);
        }
        catch (OperationCanceledException late) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"'{Local.Controls[at]}' gave no answer within {within.TotalSeconds:0} s.", null, late);
        }
    }

    /// <summary>
    /// At the source. A database that was restarted before may have left a node a connection that is broken, which it learns at its next use: then the outcome is unknown, and it is
    /// asked again.
    /// </summary>
    internal Task CreateAsync(VmSpec spec, CancellationToken cancellation) => Patience.UntilAsync(
        $"VM '{spec.Name}' is made",
        AnswerWithin,
        async () =>
        {
            try
            {
                await AskAsync((client, late) => client.CreateVmAsync(new CreateVmRequest(spec, HostName.Parse(Step.Source)), late), cancellation);
            }
            catch (FabricException there) when (there.Error.Code == ErrorCodes.Conflict)
            {
                // By the attempt before.
            }
            catch (FabricException failed) when (Machines() is { Count: > 0 } machines)
            {
                return $"{failed.Message} There is {string.Join("; ", machines)}.";
            }

            return null;
        },
        cancellation);

    /// <summary>The command lines of the cluster's QEMU processes, which name the VM, its host and its folder in memory.</summary>
    private List<string> Machines() =>
        [.. LeftOvers.Machines(Local.Directory, Local.Record.MemoryDirectory, Local.Record.MemoryPrefix).Select(static process => LeftOvers.CommandLine(process.ProcessId).Replace('\0', ' '))];

    /// <summary>What is left of a VM that was deleted: a machine, or anything in memory that is not the folder of a machine that runs, of whatever VM or migration. Null: nothing.</summary>
    private string? LeftOf(Outside deleted)
    {
        if (deleted.Machines() is { Count: > 0 } machines)
            return $"A machine at {string.Join(", ", machines.Select(static m => m.Host))}.";
        var others = Machines();
        return deleted.MemoryEntries().FirstOrDefault(entry => !others.Any(command => command.Contains(entry + "/", StringComparison.Ordinal))) is { } left ? $"'{left}'." : null;
    }

    /// <summary>Asks with one request id until there is an answer: a node or the database may be killed meanwhile, and a request said twice is one.</summary>
    internal async Task<MigrationId> MigrateAsync(MigrateRequest request, TimeSpan within, CancellationToken cancellation)
    {
        MigrationId id = default;
        await Patience.UntilAsync("an answer to the request", within, async () =>
        {
            id = (await AskAsync((client, late) => client.MigrateAsync(request, late), cancellation)).Id;
            return null;
        }, cancellation);
        return id;
    }

    /// <summary>
    /// A node that has just lost its shards, or its cluster, refuses until it has joined again: it is asked until the VM is gone. "There is none" is an answer only after an attempt
    /// whose outcome is unknown. Then nothing of the VM may be left, by what the kernel shows: a machine that ran on would hold the disk of all.
    /// </summary>
    internal async Task DeleteAsync(VmName vm, bool force, CancellationToken cancellation)
    {
        bool askedBefore = false;
        await Patience.UntilAsync($"VM '{vm}' is deleted", AnswerWithin, async () =>
        {
            try
            {
                await AskAsync(
                    async (client, late) =>
                    {
                        await client.DeleteVmAsync(vm, force, late);
                        return true;
                    },
                    cancellation);
            }
            catch (FabricException gone) when (gone.Error.Code == ErrorCodes.NotFound && askedBefore)
            {
                // By the attempt before.
            }
            finally
            {
                askedBefore = true;
            }

            return null;
        }, cancellation);
        var outside = new Outside(Local, vm);
        await Patience.UntilAsync($"nothing of VM '{vm}' is left", AnswerWithin, () => Task.FromResult(LeftOf(outside)), cancellation);
    }

    /// <summary>A guest that is its own oracle and rests between two passes over its memory, until the next hundredth of a second.</summary>
    internal VmSpec BootBlockVm(VmName name) => new() { Name = name, Accelerator = Accelerator.Tcg, MemoryBytes = 64 * ByteSize.Mebi, Disks = [new DiskSpec(Disk, Shared: true)] };

    /// <summary>What still has to come back after the row before; null: all is as after the start.</summary>
    internal virtual async Task<string?> UnsettledAsync(CancellationToken cancellation) =>
        (await AskAsync(static (client, late) => client.HostsAsync(late), cancellation)).FirstOrDefault(static h => h.State != "ready") is { } away ? $"{away.Name} is '{away.State}'." : null;

    /// <summary>Stops every thread of a member; returns when all stand.</summary>
    internal async Task FreezeAsync(string member)
    {
        _frozen = member;
        using var process = ProcessHandle.TryOpen(Local.ProcessOf(member)!)!;
        process.SendStop();
        await Patience.UntilAsync($"'{member}' stands", AnswerWithin, () => Task.FromResult(Outside.Stands(process.Identity.ProcessId) ? null : "A thread runs."), CancellationToken.None);
    }

    internal void Thaw()
    {
        using var process = ProcessHandle.TryOpen(Local.ProcessOf(_frozen!)!)!;
        process.SendContinue();
        _frozen = null;
    }

    /// <summary>Starts every member that does not run; one that was killed while it started counts as such.</summary>
    internal async Task StartTheDeadAsync(CancellationToken cancellation)
    {
        foreach (string member in Members.Where(m => Local.ProcessOf(m) is null))
            await Local.StartAsync(member, cancellation);
    }

    private sealed record Parts(
        string Directory, LocalCluster Local, StepSocket Steps, IReadOnlyList<ControlClient> Clients, TemporaryPostgres? Postgres, string? Database);
}
