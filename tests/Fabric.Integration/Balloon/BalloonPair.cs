using Fabric.Core;
using Fabric.Daemon.Rehearsals;
using Fabric.Host;
using Fabric.Integration.Qemu;
using Fabric.Machines;
using Fabric.Machines.Guests;
using Fabric.Machines.Qemu;
using Fabric.Migration;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Integration.Balloon;

/// <summary>Two real agents on this host with real QEMU machines and one Linux guest, which the test may look at past them. The bench's end counts processes and files.</summary>
internal sealed class BalloonPair : IAsyncDisposable
{
    private static readonly VmName Vm = VmName.Parse("guest");

    private readonly QemuBench _bench = new();
    private readonly Random _random = new(1);
    private readonly RehearsalHost[] _hosts = new RehearsalHost[2];
    private readonly SeenMachines[] _machines = new SeenMachines[2];
    private Epoch _run = new(1);

    internal const long MemoryBytes = 256 * ByteSize.Mebi;
    internal const long Pages = MemoryBytes / VmSpec.PageSize;

    /// <summary>The host on which the guest runs: 0 or 1.</summary>
    private int Home { get; set; }

    internal IMachine Machine => _machines[Home].Latest!;

    internal IBalloon Balloon => Machine.Balloon!;

    private HostAgent Agent => _hosts[Home].Agent;

    internal VmSpec Spec { get; private init; } = null!;

    internal static async Task<BalloonPair> StartAsync(string append, BalloonSpec? balloon = null)
    {
        string? kernel = Environment.GetEnvironmentVariable("FABRIC_GUEST_KERNEL");
        string? initrd = Environment.GetEnvironmentVariable("FABRIC_GUEST_INITRD");
        Skip.If(kernel is null || initrd is null, "no test guest: guests/build.sh builds it, and FABRIC_GUEST_KERNEL and FABRIC_GUEST_INITRD name it");
        var pair = new BalloonPair { Spec = new VmSpec { Name = Vm, Accelerator = Accelerator.Tcg, MemoryBytes = MemoryBytes, Kernel = kernel, Initrd = initrd, Append = append, Balloon = balloon } };
        try
        {
            for (int i = 0; i < 2; i++)
                await pair.StartHostAsync(i);
            var created = await pair.Agent.ExecuteAsync(new CreateVm(pair.Header(), pair.Spec), CancellationToken.None);
            Assert.Null(created.Error);
            return pair;
        }
        catch
        {
            await pair.DisposeAsync();
            throw;
        }
    }

    private async Task StartHostAsync(int index)
    {
        string folder = Path.Combine(_bench.Options.Directory, index == 0 ? "a" : "b");
        Directory.CreateDirectory(folder);
        var options = _bench.Options with { Directory = folder, MemoryDirectory = _bench.Options.MemoryDirectory, ConsoleDirectory = null };
        _machines[index] = new SeenMachines(new QemuMachineFactory(options, TimeProvider.System, new Random(index), NullLogger<QemuMachineFactory>.Instance));
        _hosts[index] = await RehearsalHost.StartAsync(
            HostName.Parse(index == 0 ? "a" : "b"), Path.Combine(_bench.Options.Directory, $"ledger-{index}"), _bench.Options.MemoryDirectory, new RehearsalMachines(_machines[index]),
            NullLoggerFactory.Instance, TimeProvider.System, CancellationToken.None);
    }

    /// <summary>Moves the guest to the other host and returns the destination's numbers.</summary>
    internal async Task<MigrationStats> MoveAsync(MigrationOptions options)
    {
        var (from, to) = (_hosts[Home], _hosts[1 - Home]);
        var plan = new MigrationPlan(
            MigrationId.New(TimeProvider.System, _random), Spec, from.Name, to.Name, options, _run, _run.Next, new Ticket(new string('a', 2 * Ticket.Bytes)), TimeProvider.System.GetUtcNow());
        await new RehearsalMove(plan, from, to, TimeProvider.System).RunAsync(CancellationToken.None);
        (Home, _run) = (1 - Home, _run.Next);
        var facts = await Agent.FactsAsync(-1, TimeSpan.Zero, CancellationToken.None);
        return facts.Vms.Single().Incoming!.Stats;
    }

    /// <summary>Begins a push to nobody: memory is taken, then nobody lets the source in, and it is given back.</summary>
    internal async Task PushToNobodyAsync()
    {
        var header = Header() with { Migration = MigrationId.New(TimeProvider.System, _random) };
        var push = new StartPush(header, HostName.Parse("nobody"), new DataEndpoint("127.0.0.1", 1), new Ticket(new string('a', 2 * Ticket.Bytes)), new MigrationOptions(Balloon: BalloonUse.Auto));
        var pushed = await Agent.ExecuteAsync(push, CancellationToken.None);
        Assert.Null(pushed.Error);
    }

    internal async Task<bool> IsPushingAsync() =>
        (await Agent.FactsAsync(-1, TimeSpan.Zero, CancellationToken.None)).Vms.Single().Outgoing is { Phase: SourcePhase.Pushing };

    internal string Console()
    {
        using var reader = new StreamReader(new FileStream(Machine.ConsoleLog, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        return reader.ReadToEnd();
    }

    internal Task SaysAsync(string text) => QemuBench.EventuallyAsync(() => Console().Contains(text, StringComparison.Ordinal), $"the guest says '{text}'");

    /// <summary>The guest's checker goes over its memory once more, here, and finds nothing wrong.</summary>
    internal async Task ChecksItsMemoryAsync()
    {
        long before = HeartbeatLog.Parse(Console()).OkCount;
        await QemuBench.EventuallyAsync(() => HeartbeatLog.Parse(Console()) is { IsClean: true } log && log.OkCount >= before + 2, "the guest checked its memory");
    }

    /// <summary>Waits until the guest has all of its memory.</summary>
    internal async Task HasItsMemoryAsync()
    {
        long began = TimeProvider.System.GetTimestamp();
        while (await Balloon.QueryActualAsync(CancellationToken.None) is var actual && actual != MemoryBytes)
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < QemuBench.Patience, $"The guest was left with {ByteSize.Format(actual)}.");
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }
    }

    /// <summary>Waits until the guest's balloon holds so many bytes and what is still free is a reserve; returns what it holds.</summary>
    internal async Task<long> HoldsAsync(long bytes)
    {
        for (long began = TimeProvider.System.GetTimestamp(); ; await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System))
        {
            var report = await Balloon.QueryStatisticsAsync(CancellationToken.None);
            long held = MemoryBytes - await Balloon.QueryActualAsync(CancellationToken.None);
            if (held >= bytes && report is { Free: { } free } && free <= held / 10)
                return held;
            Assert.True(TimeProvider.System.GetElapsedTime(began) < QemuBench.Patience, $"The balloon holds {ByteSize.Format(held)}, and {ByteSize.Format(report?.Free ?? 0)} are free.");
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var host in _hosts)
        {
            if (host is not null)
                await host.DisposeAsync();
        }

        foreach (string name in new[] { "a", "b", "ledger-0", "ledger-1" })
        {
            if (Directory.Exists(Path.Combine(_bench.Options.Directory, name)))
                Directory.Delete(Path.Combine(_bench.Options.Directory, name), recursive: true);
        }

        await _bench.DisposeAsync();
    }

    private CommandHeader Header() => new(new CommandId(MigrationId.New(TimeProvider.System, _random).Value), Vm, new Epoch(1), _run);

    /// <summary>Shows the machine that was made last.</summary>
    private sealed class SeenMachines(QemuMachineFactory inner) : IMachineFactory, IDisposable
    {
        internal IMachine? Latest { get; private set; }

        public MachineKind Kind => inner.Kind;

        public async ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation) => Latest = await inner.CreateAsync(spec, birth, cancellation);

        public ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation) => inner.AdoptAsync(adoptionRecord, cancellation);

        public ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation) => inner.SweepAsync(adoptionRecords, cancellation);

        public void Dispose() => inner.Dispose();
    }
}
