using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Supervisor;

/// <summary>Three model hosts, a journal, and a control node that may be killed and started again. Waits are on the board's version, with a deadline.</summary>
internal sealed class ControlBench : IAsyncDisposable
{
    public static readonly HostName Alpha = HostName.Parse("alpha");
    public static readonly HostName Beta = HostName.Parse("beta");
    public static readonly HostName Gamma = HostName.Parse("gamma");

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);
    private int _lives;

    private ControlBench(IJournal journal) => Journal = journal;

    public int Lives => Volatile.Read(ref _lives);

    public ModelCluster Cluster { get; } = new();

    public ModelGateway Gateway { get; private set; } = null!;

    public IJournal Journal { get; }

    public MemoryJournal Memory => (MemoryJournal)Journal;

    public ControlPlane Control { get; private set; } = null!;

    public SupervisorOptions Options { get; init; } = new()
    {
        Shards = 2,
        FactsWait = TimeSpan.FromMilliseconds(200),
        PollRetry = TimeSpan.FromMilliseconds(10),
        CommandRetry = TimeSpan.FromMilliseconds(5),
        Ask = TimeSpan.FromSeconds(15),
        RegisterWithin = TimeSpan.Zero,
        ForceAfter = TimeSpan.FromMilliseconds(300),
        Lease = new LeaseOptions { Duration = TimeSpan.FromSeconds(10), Retry = TimeSpan.FromMilliseconds(20) },
        Timings = new MigrationTimings
        {
            TokenOutcome = TimeSpan.FromMilliseconds(150),
            HandOver = TimeSpan.FromMilliseconds(300),
            Silence = TimeSpan.FromMilliseconds(600),
            Fencing = TimeSpan.FromMilliseconds(600),
            Retry = TimeSpan.FromMilliseconds(10),
            Drain = TimeSpan.FromMilliseconds(50),
            SourceGone = TimeSpan.FromMilliseconds(300),
        },
    };

    public static async Task<ControlBench> StartAsync(IJournal? journal = null, SupervisorOptions? options = null, params (string Name, long Memory)[] hosts)
    {
        var bench = options is null ? new ControlBench(journal ?? new MemoryJournal()) : new ControlBench(journal ?? new MemoryJournal()) { Options = options };
        if (hosts.Length == 0)
            hosts = [("alpha", 8 * ByteSize.Gibi), ("beta", 8 * ByteSize.Gibi), ("gamma", 8 * ByteSize.Gibi)];
        foreach (var (name, memory) in hosts)
            bench.Cluster.Add(name, memory);
        bench.Gateway = new ModelGateway(bench.Cluster);
        await bench.StartControlAsync();
        return bench;
    }

    /// <summary>A new life of the control node over the same journal and hosts; it knows nothing else.</summary>
    public async Task StartControlAsync()
    {
        int life = Interlocked.Increment(ref _lives);

        // In memory each life has a name of its own, so that a test can tell their appends apart; a real store gives a name its shards back at once.
        string holder = Journal is MemoryJournal ? $"node-{life}" : "node";
        Control = NewControl(new HostRegistry(TimeProvider.System), holder);
        await Control.StartAsync(CancellationToken.None);
        foreach (var agent in Cluster.Agents.Values)
            await Register(agent);
        await UntilAsync(async () => (await Control.ListHostsAsync(default)).All(static h => h.State != "unreachable"), "all hosts answer");
    }

    /// <summary>A control node beside the bench's own; the caller starts and ends it.</summary>
    public ControlPlane NewControl(HostRegistry hosts, string holder = "another", SupervisorOptions? options = null, ModelGateway? gateway = null) =>
        new(Journal, gateway ?? Gateway, hosts, holder, TimeProvider.System, new Random(Lives), NullLoggerFactory.Instance, options ?? Options);

    /// <summary>The control node is gone as by kill -9, and another life begins: what the old one still tries reaches neither agents nor journal.</summary>
    public async Task RestartControlAsync()
    {
        Gateway.Kill();
        var old = Control;
        Gateway = new ModelGateway(Cluster) { Allow = Gateway.Allow };
        await StartControlAsync();
        await old.DisposeAsync();
    }

    public Task Register(ModelAgent agent) => Control.RegisterHostAsync(Registration(agent), default);

    /// <summary>Of the refusal.</summary>
    public static async Task<string> CodeAsync(Func<Task> ask) => (await Assert.ThrowsAsync<FabricException>(ask)).Error.Code;

    public static HostRegistration Registration(ModelAgent agent) =>
        new(agent.Name, agent.Incarnation, new Uri("http://127.0.0.1:7070"), agent.Data, agent.MemoryBytes, 4, [MachineKind.Synthetic], "test");

    public static VmSpec Spec(string name, long memory = 256 * ByteSize.Mebi) => new()
    {
        Name = VmName.Parse(name),
        Machine = MachineKind.Synthetic,
        MemoryBytes = memory,
        Workload = "idle:1",
    };

    public Task<VmReport> CreateAsync(string name, HostName at, long memory = 256 * ByteSize.Mebi) => Control.CreateVmAsync(new CreateVmRequest(Spec(name, memory), at), default);

    public Task<MigrationReport> MigrateAsync(string vm, HostName to, MigrationMode mode = MigrationMode.PreCopy, Guid? request = null) =>
        Control.MigrateAsync(new MigrateRequest(VmName.Parse(vm), to, new MigrationOptions { Mode = mode, Reason = "test" }, request), default);

    public static bool Over(string state) => state is "completed" or "failed" or "aborted" or "recovered" or "lost";

    public async Task<MigrationReport> EndOfAsync(MigrationId id)
    {
        MigrationReport? report = null;
        await UntilAsync(
            async () => Over((report = await Control.GetMigrationAsync(id.ToString(), default)).State),
            $"migration {id} ends (it is {report?.State})");
        return report!;
    }

    public async Task UntilAsync(Func<Task<bool>> condition, string what)
    {
        using var deadline = new CancellationTokenSource(Deadline);
        while (true)
        {
            long version = await Control.WaitChangeAsync(-1, TimeSpan.Zero, default);
            if (await condition())
                return;
            Assert.False(deadline.IsCancellationRequested, $"Not within {Deadline.TotalSeconds} s: {what}");
            await Control.WaitChangeAsync(version, TimeSpan.FromMilliseconds(100), default);
        }
    }

    public async ValueTask DisposeAsync() => await Control.DisposeAsync();
}
