// What agents say is true. Facts are levels, not edges: an agent repeats the whole of what holds now, so a supervisor that was
// born a moment ago knows as much as one that watched from the beginning, and a lost or repeated answer changes nothing.
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>Where the source agent stands in one outgoing migration. "Durable" = in the agent's ledger before it is said.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<SourcePhase>))]
public enum SourcePhase
{
    /// <summary>The VM runs here; pages are being copied.</summary>
    [JsonStringEnumMemberName("pushing")] Pushing,

    /// <summary>The VM runs here; the rounds have done what they can and the next step is the hand-over. Rounds go on meanwhile.</summary>
    [JsonStringEnumMemberName("converged")] Converged,

    /// <summary>The VM runs here; the push ended with an error (link, destination, agent restart) and nothing of it is left.</summary>
    [JsonStringEnumMemberName("push-failed")] PushFailed,

    /// <summary>Durable. The VM is being stopped or stands; the token has not left. The agent's own deadline ends this phase.</summary>
    [JsonStringEnumMemberName("handing-over")] HandingOver,

    /// <summary>Durable. The hand-over was called off before the token left; the VM runs here at its old epoch.</summary>
    [JsonStringEnumMemberName("withdrawn")] Withdrawn,

    /// <summary>Durable. The token may have reached the destination; the VM stands and may not run here.</summary>
    [JsonStringEnumMemberName("token-sent")] TokenSent,

    /// <summary>Durable. The destination said that it accepted; this agent serves missing pages if there are any.</summary>
    [JsonStringEnumMemberName("handed-over")] HandedOver,

    /// <summary>Durable. The destination needs nothing more from here.</summary>
    [JsonStringEnumMemberName("drained")] Drained,

    /// <summary>Durable. The source's machine is gone (pid and start time checked) with all that belonged to it.</summary>
    [JsonStringEnumMemberName("released")] Released,
}

/// <summary>Where the destination agent stands in one incoming migration.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DestinationPhase>))]
public enum DestinationPhase
{
    /// <summary>The incoming machine is being made.</summary>
    [JsonStringEnumMemberName("preparing")] Preparing,

    /// <summary>The incoming machine waits, its memory can be filled.</summary>
    [JsonStringEnumMemberName("prepared")] Prepared,

    /// <summary>The device state is loaded and everything promised was verified: the token would be accepted.</summary>
    [JsonStringEnumMemberName("ready")] Ready,

    /// <summary>Durable. The token is here; the VM is being continued. From now on it runs here and nowhere else.</summary>
    [JsonStringEnumMemberName("token-accepted")] TokenAccepted,

    /// <summary>The VM runs here and still needs pages from the source.</summary>
    [JsonStringEnumMemberName("pulling")] Pulling,

    /// <summary>As <see cref="Pulling"/>, but the link to the source is down: the VM waits where it needs a missing page.</summary>
    [JsonStringEnumMemberName("pull-broken")] PullBroken,

    /// <summary>Durable. The VM runs here and needs nothing from the source.</summary>
    [JsonStringEnumMemberName("complete")] Complete,

    /// <summary>Durable. This agent did not and will never accept the token of this migration; the incoming machine is gone.</summary>
    [JsonStringEnumMemberName("refused")] Refused,

    /// <summary>The machine died after the token was accepted and before all pages were here.</summary>
    [JsonStringEnumMemberName("lost")] Lost,
}

/// <summary><paramref name="Why"/>: in <see cref="SourcePhase.Converged"/>, what the rounds showed.</summary>
public sealed record SourceFact(
    MigrationId Migration, SourcePhase Phase, Epoch HandOverEpoch, MigrationMode Mode, MigrationStats Stats, FabricError? Error = null, string? Why = null);

public sealed record DestinationFact(MigrationId Migration, DestinationPhase Phase, Epoch HandOverEpoch, MigrationStats Stats, FabricError? Error = null);

/// <summary>What the machine of a VM does on a host.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<VmRunState>))]
public enum VmRunState
{
    [JsonStringEnumMemberName("starting")] Starting,
    [JsonStringEnumMemberName("running")] Running,

    /// <summary>vCPUs stand (stopped for a hand-over, or by an operator).</summary>
    [JsonStringEnumMemberName("paused")] Paused,

    /// <summary>An incoming machine without the right to run.</summary>
    [JsonStringEnumMemberName("incoming")] Incoming,

    /// <summary>The machine ended by itself.</summary>
    [JsonStringEnumMemberName("exited")] Exited,
}

/// <summary>
/// One VM on one host. <paramref name="RunEpoch"/> is the epoch at which this host holds or held the right to run; 0 for an incoming VM that never had it.
/// <paramref name="Owner"/>: by this agent's ledger the right to run is here. At most one host in the cluster says true.
/// </summary>
public sealed record VmFact(
    VmSpec Spec, Epoch RunEpoch, bool Owner, VmRunState State, int? ProcessId, SourceFact? Outgoing, DestinationFact? Incoming, string? Note = null)
{
    [JsonIgnore]
    public VmName Name => Spec.Name;
}
