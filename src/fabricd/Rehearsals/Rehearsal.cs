// Why there is a rehearsal: the runtime compiles a method when it is first called, and in a fresh agent the first call of nearly everything between
// "stop vCPUs" and "running" would fall into a production VM's pause: 50 to 100 ms that the second hand-over does not have. So an agent that has started
// moves a small VM of its own there and back, through the real agent, ledger, data plane and hypervisor, between two hosts that only it knows:
//
//     create ── pre-copy ──▶          STATE/rehearsal    ledgers, sockets, logs
//   a                          b        MEMORY/rehearsal   its RAM
//     delete ◀── post-copy ──
//
// It runs beside the agent's service and nothing waits for it. Its failure is a warning: the host may still work, and the next real migration will tell.
// It also is a self-test: a host on which it fails will hardly take part in a migration.
using Fabric.Core;
using Fabric.Machines;
using Fabric.Machines.Qemu;
using Fabric.Machines.Synthetic;
using Fabric.Migration;

namespace Fabric.Daemon.Rehearsals;

/// <param name="Folder">For ledgers, sockets and logs; made, and removed at the end.</param>
/// <param name="MemoryDirectory">On tmpfs, of the rehearsal alone; made, and removed at the end.</param>
/// <param name="Qemu">Null: a synthetic machine is moved.</param>
internal sealed record RehearsalOptions(string Folder, string MemoryDirectory, QemuOptions? Qemu);

internal sealed partial class Rehearsal(RehearsalOptions options, ILoggerFactory logs, TimeProvider time, Random random)
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);
    private static readonly VmName Vm = VmName.Parse("rehearsal");
    private readonly ILogger _log = logs.CreateLogger<Rehearsal>();

    /// <summary>Returns when it is over and nothing of it is left, however it went; true when the VM moved. Cancelled: it ends early, and also leaves nothing.</summary>
    public async Task<bool> RunAsync(CancellationToken cancellation)
    {
        long began = time.GetTimestamp();
        using var deadline = new CancellationTokenSource(Deadline, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        try
        {
            Directory.CreateDirectory(options.MemoryDirectory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            await PlayAsync(either.Token);
            LogDone(time.GetElapsedTime(began).TotalMilliseconds);
            return true;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Nothing depends on it, so whatever it was is worth a line and no more.
            if (!cancellation.IsCancellationRequested)
                LogFailed(e.Message);
            return false;
        }
        finally
        {
            Remove(options.Folder);
            Remove(options.MemoryDirectory);
        }
    }

    private async Task PlayAsync(CancellationToken cancellation)
    {
        await using var here = await StartAsync("a", cancellation);
        await using var there = await StartAsync("b", cancellation);
        var spec = Spec();
        Done(await here.Agent.ExecuteAsync(new CreateVm(Header(new Epoch(1)), spec), cancellation));
        await MoveAsync(spec, MigrationMode.PreCopy, here, there, new Epoch(1), cancellation);
        await MoveAsync(spec, MigrationMode.PostCopy, there, here, new Epoch(2), cancellation);
        Done(await here.Agent.ExecuteAsync(new DeleteVm(Header(new Epoch(3))), cancellation));
    }

    private async Task MoveAsync(VmSpec spec, MigrationMode mode, RehearsalHost from, RehearsalHost to, Epoch run, CancellationToken cancellation)
    {
        byte[] secret = new byte[Ticket.Bytes];
        random.NextBytes(secret);
        var plan = new MigrationPlan(
            MigrationId.New(time, random), spec, from.Name, to.Name, new MigrationOptions(mode), run, run.Next, new Ticket(Convert.ToHexStringLower(secret)), time.GetUtcNow());
        await new RehearsalMove(plan, from, to, time).RunAsync(cancellation);
    }

    private async Task<RehearsalHost> StartAsync(string name, CancellationToken cancellation)
    {
        // Short names: sockets lie below, and their paths are limited.
        string machines = Path.Combine(options.Folder, name);
        Directory.CreateDirectory(machines);
        return await RehearsalHost.StartAsync(HostName.Parse(name), Path.Combine(options.Folder, $"ledger-{name}"), options.MemoryDirectory, new RehearsalMachines(Machines(machines)), logs, time, cancellation);
    }

    private IMachineFactory Machines(string folder)
    {
        if (options.Qemu is not { } qemu)
            return new SyntheticMachineFactory(folder, time);
        return new QemuMachineFactory(qemu with { Directory = folder, MemoryDirectory = options.MemoryDirectory, ConsoleDirectory = null }, time, random, logs.CreateLogger<QemuMachineFactory>());
    }

    private VmSpec Spec()
    {
        if (options.Qemu is null)
            return new VmSpec { Name = Vm, Machine = MachineKind.Synthetic, MemoryBytes = 4 * ByteSize.Mebi, Workload = "write-heavy:1:1M:5000" };
        // Firmware that finds nothing to boot is a guest like any other.
        string disk = Path.Combine(options.Folder, "disk");
        using (var file = File.Create(disk))
            file.SetLength(ByteSize.Mebi);
        return new VmSpec { Name = Vm, MemoryBytes = 16 * ByteSize.Mebi, Accelerator = Accelerator.Tcg, Disks = [new DiskSpec(disk, Shared: true)] };
    }

    private CommandHeader Header(Epoch run) => new(new CommandId(MigrationId.New(time, random).Value), Vm, new Epoch(1), run);

    private static void Done(CommandResult result)
    {
        if (result.Error is { } error)
            throw new FabricException(error);
    }

    private void Remove(string directory)
    {
        try
        {
            if (Directory.Exists(directory))
                Directory.Delete(directory, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogLeft(directory, e.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The rehearsal of a migration took {Milliseconds:0} ms")]
    private partial void LogDone(double milliseconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The rehearsal left {Directory} behind: {Error}")]
    private partial void LogLeft(string directory, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The rehearsal of a migration failed, migrations from and to this host may fail too: {Error}")]
    private partial void LogFailed(string error);
}
