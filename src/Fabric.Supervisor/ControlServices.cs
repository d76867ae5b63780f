using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor;

/// <summary>What every actor of a control node is given: the seams to the outside, and the board on which it publishes what it knows. All of it is safe for any thread.</summary>
internal sealed record ControlServices(
    IJournal Journal, IAgentGateway Agents, HostRegistry Hosts, Board Board, MovementGate Gate, IdSource Ids, TimeProvider Time, ILoggerFactory Loggers, SupervisorOptions Options)
{
    /// <summary>For deadlines and records.</summary>
    public SteadyClock Clock { get; } = new(Time);

    public DateTimeOffset Now => Clock.Now;
}

/// <summary>New ids and jitter for many threads from one injected source of randomness.</summary>
internal sealed class IdSource(TimeProvider time, Random random)
{
    private readonly Lock _gate = new();

    public MigrationId NewMigration()
    {
        lock (_gate)
            return MigrationId.New(time, random);
    }

    /// <summary>Half to all of <paramref name="delay"/>.</summary>
    public TimeSpan Jitter(TimeSpan delay)
    {
        lock (_gate)
            return delay * (0.5 + (random.NextDouble() / 2));
    }
}

/// <summary>Starts a migration on behalf of a batch, whichever shard its VM is in.</summary>
internal interface IMigrationStarter
{
    /// <summary>A repeated <paramref name="requestId"/> gets the migration of the first. Refusals are <see cref="FabricException"/>s.</summary>
    Task<KnownState> StartAsync(VmName vm, HostName destination, MigrationOptions options, Guid requestId, string batch, CancellationToken cancellation);

    Task SetCordonedAsync(HostName host, bool cordoned, CancellationToken cancellation);
}
