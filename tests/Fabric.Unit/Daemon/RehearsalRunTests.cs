using Fabric.Actors;
using Fabric.Core;
using Fabric.Daemon.Rehearsals;
using Fabric.Host;
using Fabric.Host.Ledger;
using Fabric.Unit.Host;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Daemon;

/// <summary>What the readiness check of a host is told by its rehearsal, a real one with a synthetic machine.</summary>
public sealed class RehearsalRunTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

    private readonly string _root = Directory.CreateTempSubdirectory("fabric-rehearsal-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_host_is_ready_when_its_rehearsal_is_over_whatever_came_of_it(bool succeeds)
    {
        if (!succeeds)
            await File.WriteAllTextAsync(Path.Combine(_root, "state"), ""); // where a folder is to be
        await using var agent = await AgentAsync();
        var rehearsal = new Rehearsal(
            new RehearsalOptions(Path.Combine(_root, "state"), Path.Combine(_root, "memory"), Qemu: null), NullLoggerFactory.Instance, TimeProvider.System, new Random(1));
        await using var run = new RehearsalRun(rehearsal, agent, NullLogger.Instance, TimeProvider.System);
        // A failure may be quicker than this look.
        if (succeeds)
            Assert.Contains("rehearsal", run.Problem, StringComparison.Ordinal);
        await Eventually.HoldsAsync(() => run.Problem is null, () => run.Problem ?? "it is ready", Deadline);
    }

    private Task<HostAgent> AgentAsync()
    {
        var options = new HostAgentOptions { Name = HostName.Parse("alpha"), MemoryDirectory = _root, MemoryBytes = null };
        var seams = new HostAgentSeams(
            new LedgerDirectory(Path.Combine(_root, "ledger")), new MemoryNetwork().NewPlane(), [new FakeFactory("alpha", new RunObserver())], TimeProvider.System, () => new Random(1),
            new ThreadPoolDispatcher(), NullLoggerFactory.Instance);
        return HostAgent.StartAsync(options, seams, CancellationToken.None);
    }
}
