using System.Net;
using Fabric.Actors;
using Fabric.Api;
using Fabric.Core;
using Fabric.Daemon.Configuration;
using Fabric.Daemon.Measuring;
using Fabric.Daemon.Rehearsals;
using Fabric.Daemon.State;
using Fabric.Daemon.Steps;
using Fabric.Host;
using Fabric.Host.Ledger;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Machines.Qemu;
using Fabric.Machines.Synthetic;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Fabric.Daemon;

/// <summary>
/// The host role: machines, the agent with its data port, the agents' API (HTTP/2) and the registration with the control nodes.
/// Stopping it lets go of the guests and leaves them running.
/// </summary>
internal sealed partial class HostRole : IAsyncDisposable
{
    private readonly HostSettings _settings;
    private readonly HostAgent _agent;
    private readonly LinkHome _links;
    private readonly IReadOnlyList<IMachineFactory> _machines;
    private readonly HttpService _http;
    private readonly HostAnnouncer _announcer;
    private readonly RehearsalRun? _rehearsal;

    private HostRole(HostSettings settings, HostAgent agent, LinkHome links, IReadOnlyList<IMachineFactory> machines, HttpService http, HostAnnouncer announcer, RehearsalRun? rehearsal) =>
        (_settings, _agent, _links, _machines, _http, _announcer, _rehearsal) = (settings, agent, links, machines, http, announcer, rehearsal);

    public Uri AgentUrl => _http.Urls[0];

    public DataEndpoint Data => _agent.Data;

    public Guid Incarnation => _agent.Incarnation;

    public static async Task<HostRole> StartAsync(
        HostName name, HostSettings settings, StateDirectory state, StepGate? gate, ILoggerFactory logs, TimeProvider time, CancellationToken cancellation)
    {
        var log = logs.CreateLogger<HostRole>();
        Directory.CreateDirectory(settings.MemoryDirectory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var machines = Machines(settings, state, logs, time, log);
        var data = new IPEndPoint(settings.DataListen.Address, state.StickyPort(ConfigKeys.HostDataListen, settings.DataListen.Port));
        long memory = settings.MemoryLimit ?? MemoryOf(settings.MemoryDirectory);
        var links = new LinkHome(logs, time);
        ILedgerStore ledgers = new LedgerDirectory(Path.Combine(state.Root, "ledger"));
        var transfer = TransferSettings.Default with { WithoutReadAhead = ReadAheadSwitch.Read(Environment.GetEnvironmentVariable(ReadAheadSwitch.Variable)) };
        if (gate is not null)
            ledgers = new SteppedLedgers(ledgers, gate);
        HostAgent? agent = null;
        HttpService? http = null;
        try
        {
            agent = await HostAgent.StartAsync(
                new HostAgentOptions { Name = name, MemoryDirectory = settings.MemoryDirectory, MemoryBytes = memory },
                new HostAgentSeams(
                    ledgers, new SocketDataPlane(data, links.Actor, transfer, time, logs), machines, time, () => new Random(), new ThreadPoolDispatcher(), logs),
                cancellation);
            HostAnnouncer? announcer = null;
            RehearsalRun? rehearsal = null;
            http = await HttpService.StartAsync(
                [new HttpEndpoint(new IPEndPoint(settings.Listen.Address, state.StickyPort(ConfigKeys.HostListen, settings.Listen.Port)), HttpProtocols.Http2)],
                settings.Trusted,
                routes =>
                {
                    routes.MapAgentApi(agent);
                    routes.MapHealth([new HealthCheck("registered", () => announcer is null ? "starting" : announcer.Problem), new HealthCheck("rehearsed", () => rehearsal?.Problem)]);
                },
                logs,
                time,
                cancellation);
            state.RememberPorts(new Dictionary<string, int>(StringComparer.Ordinal) { [ConfigKeys.HostListen] = http.Urls[0].Port, [ConfigKeys.HostDataListen] = agent.Data.Port });
            var registration = new HostRegistration(
                name, agent.Incarnation, http.Urls[0], agent.Data, memory, Environment.ProcessorCount, [.. machines.Select(m => m.Kind)], ServiceVersion.Text,
                settings.Site);
            announcer = new HostAnnouncer(settings.ControlUrls, registration, time, new Random(), logs.CreateLogger<HostAnnouncer>());
            rehearsal = settings.Rehearse ? new RehearsalRun(NewRehearsal(settings, state, machines, logs, time), agent, logs.CreateLogger<RehearsalRun>(), time) : null;
            return new HostRole(settings, agent, links, machines, http, announcer, rehearsal);
        }
        catch
        {
            if (http is not null)
                await http.DisposeAsync();
            if (agent is not null)
                await agent.DisposeAsync();
            await links.DisposeAsync();
            throw;
        }
    }

    /// <summary>
    /// Ends every machine of this host and removes its memory: only for an ephemeral cluster whose owner is gone. Its control node is ending as well, so
    /// nobody is asked; the processes are ended by pid and start time.
    /// </summary>
    public async Task EndMachinesAsync()
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(5));
        var facts = await _agent.FactsAsync(-1, TimeSpan.Zero, deadline.Token);
        using var watch = new DeathWatch();
        var machines = facts.Vms.Select(vm => vm.ProcessId is { } pid ? ProcessHandle.TryOpen(pid) : null).OfType<ProcessHandle>().ToList();
        foreach (var machine in machines)
        {
            machine.SendKill();
            await watch.WhenExited(machine).WaitAsync(deadline.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            machine.Dispose();
        }

        if (_rehearsal is not null)
            await _rehearsal.DisposeAsync();
        await _agent.DisposeAsync();
        Directory.Delete(_settings.MemoryDirectory, recursive: true);
    }

    public async ValueTask DisposeAsync()
    {
        if (_rehearsal is not null)
            await _rehearsal.DisposeAsync();
        await _announcer.DisposeAsync();
        await _http.DisposeAsync();
        await _agent.DisposeAsync();
        await _links.DisposeAsync();
        foreach (var factory in _machines.OfType<IDisposable>())
            factory.Dispose();
    }

    private static QemuOptions Qemu(HostSettings settings, StateDirectory state) => new()
    {
        Directory = Path.Combine(state.Root, "qemu"),
        MemoryDirectory = settings.MemoryDirectory,
        ConsoleDirectory = Consoles(state),
        Binary = settings.Qemu,
    };

    private static Rehearsal NewRehearsal(HostSettings settings, StateDirectory state, IReadOnlyList<IMachineFactory> machines, ILoggerFactory logs, TimeProvider time)
    {
        const string Name = "rehearsal";
        bool qemu = machines.Any(m => m.Kind == MachineKind.Qemu);
        var options = new RehearsalOptions(Path.Combine(state.Root, Name), Path.Combine(settings.MemoryDirectory, Name), qemu ? Qemu(settings, state) : null);
        return new Rehearsal(options, logs, time, new Random());
    }

    /// <summary>Synthetic machines run everywhere; QEMU ones where the machine has what they need.</summary>
    private static List<IMachineFactory> Machines(HostSettings settings, StateDirectory state, ILoggerFactory logs, TimeProvider time, ILogger log)
    {
        var options = Qemu(settings, state);
        List<IMachineFactory> machines = [];
        var checks = Preflight.Run(new PreflightOptions { QemuBinary = options.Binary, ShimPath = options.ShimPath, MemoryDirectory = settings.MemoryDirectory, MemoryBytes = 0 });
        if (Preflight.WhyNot(checks) is { } lacking)
        {
            LogNoQemu(log, lacking);
        }
        else
        {
            Directory.CreateDirectory(options.Directory);
            machines.Add(new QemuMachineFactory(options, time, new Random(), logs.CreateLogger<QemuMachineFactory>()));
        }

        Directory.CreateDirectory(Consoles(state));
        machines.Add(new SyntheticMachineFactory(Consoles(state), time));
        return machines;
    }

    private static string Consoles(StateDirectory state) => Path.Combine(state.Root, "console");

    private static long MemoryOf(string directory) => new DriveInfo(directory).TotalSize;

    [LoggerMessage(Level = LogLevel.Warning, Message = "No QEMU machines here: {Lacking}")]
    private static partial void LogNoQemu(ILogger log, string lacking);
}
