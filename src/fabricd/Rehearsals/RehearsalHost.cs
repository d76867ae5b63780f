using System.Net;
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host;
using Fabric.Host.Ledger;
using Fabric.Host.Link;
using Fabric.Transfer;

namespace Fabric.Daemon.Rehearsals;

/// <summary>An agent of the rehearsal: the real one, with a ledger, a data port on loopback and machines of its own, and without an API.</summary>
internal sealed class RehearsalHost : IAsyncDisposable
{
    private static readonly TimeSpan EndDeadline = TimeSpan.FromSeconds(10);

    // So small a VM would be pushed as a whole before it stops, and its pull would be none.
    private static readonly TransferSettings Settings = TransferSettings.Default with { WorkingSetTime = TimeSpan.Zero };

    private readonly LinkHome _links;
    private readonly RehearsalMachines _machines;
    private readonly TimeProvider _time;

    private RehearsalHost(HostName name, HostAgent agent, LinkHome links, RehearsalMachines machines, TimeProvider time) =>
        (Name, Agent, _links, _machines, _time) = (name, agent, links, machines, time);

    public HostName Name { get; }

    public HostAgent Agent { get; }

    /// <param name="ledgers">Of this host alone. What is there of a rehearsal that was cut off is dropped first: then the agent ends the machines that it named.</param>
    public static async Task<RehearsalHost> StartAsync(
        HostName name, string ledgers, string memoryDirectory, RehearsalMachines machines, ILoggerFactory logs, TimeProvider time, CancellationToken cancellation)
    {
        if (Directory.Exists(ledgers))
            Directory.Delete(ledgers, recursive: true);
        var links = new LinkHome(logs, time);
        try
        {
            var agent = await HostAgent.StartAsync(
                new HostAgentOptions { Name = name, MemoryDirectory = memoryDirectory },
                new HostAgentSeams(
                    new LedgerDirectory(ledgers), new SocketDataPlane(new IPEndPoint(IPAddress.Loopback, 0), links.Actor, Settings, time, logs),
                    [machines], time, () => new Random(), new ThreadPoolDispatcher(), logs),
                cancellation);
            return new RehearsalHost(name, agent, links, machines, time);
        }
        catch
        {
            await links.DisposeAsync();
            throw;
        }
    }

    /// <summary>Lets go of the machines, then ends every one in the folder: also one that was being made when the rehearsal was cut off.</summary>
    public async ValueTask DisposeAsync()
    {
        using var deadline = new CancellationTokenSource(EndDeadline, _time);
        await Agent.DisposeAsync();
        await _links.DisposeAsync();
        await _machines.EndAsync(deadline.Token);
    }
}
