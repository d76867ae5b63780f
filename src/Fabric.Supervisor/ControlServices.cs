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
    /// <summary>An agent that names a shard epoch so far above the sender's is not believed.</summary>
    private const long FarthestEpoch = 1_000_000;

    /// <summary>For deadlines and records.</summary>
    public SteadyClock Clock { get; } = new(Time);

    public DateTimeOffset Now => Clock.Now;

    /// <summary>Sends under a tenure: nothing when it is not held, always with its term. An agent that has obeyed another one of the shard ends it.</summary>
    /// <exception cref="FabricException">refused-by-epoch: the tenure is over; otherwise as <see cref="IAgentGateway.SendAsync"/>.</exception>
    public async Task<CommandResult> SendAsync(ShardTenure tenure, HostName host, AgentCommand command, CancellationToken cancellation)
    {
        if (!tenure.Held)
            throw new FabricException(ErrorCodes.RefusedByEpoch, $"Shard {tenure.Shard.Value} is no longer held at epoch {tenure.Epoch}; host '{host}' was not asked.");
        var result = await Agents.SendAsync(host, command with { Header = command.Header with { ShardTerm = tenure.Term } }, cancellation);
        if (result.Seen is not { } seen)
            return result;
        if (seen < tenure.Epoch || seen.Value - tenure.Epoch.Value > FarthestEpoch)
            throw new FabricException(ErrorCodes.Malformed, $"Host '{host}' refuses shard epoch {tenure.Epoch} because of {seen}.", "Do control node and agent run the same version?");
        tenure.Outdo(seen);
        throw new FabricException(result.Error ?? new FabricError(ErrorCodes.RefusedByEpoch, $"Host '{host}' has obeyed shard epoch {seen}."));
    }
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

    public Guid NewRequest()
    {
        lock (_gate)
            return RandomIds.Next(random);
    }

    /// <summary>Half to all of <paramref name="delay"/>.</summary>
    public TimeSpan Jitter(TimeSpan delay)
    {
        lock (_gate)
            return delay * (0.5 + (random.NextDouble() / 2));
    }
}

/// <summary>On whose behalf a migration begins, and the limits that hold for it.</summary>
internal sealed record BatchMembership(string Id, BatchLimits? Limits);

/// <summary>Starts a migration on behalf of a batch, whichever shard its VM is in.</summary>
internal interface IMigrationStarter
{
    /// <summary>A repeated <paramref name="requestId"/> gets the migration of the first. Refusals are <see cref="FabricException"/>s.</summary>
    Task<KnownState> StartAsync(VmName vm, HostName destination, MigrationOptions options, Guid requestId, BatchMembership batch, CancellationToken cancellation);

    Task SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation);
}
