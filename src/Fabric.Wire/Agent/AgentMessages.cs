// Control messages between control nodes and host agents: JSON over HTTP/2, versioned by path (/agent/v1/…), bounded by
// Limits.ControlMessageBytes. docs/PROTOCOL.md walks through them.
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Wire.Agent;

/// <summary>
/// POST {control}/v1/hosts, repeated by every host agent every second or two. <paramref name="Incarnation"/> is new at each start of the
/// agent. <paramref name="AgentUrl"/> is where commands and facts are asked for. <paramref name="Site"/>: null when the host was given none, or its agent is older than sites.
/// </summary>
public sealed record HostRegistration(
    HostName Name, Guid Incarnation, Uri AgentUrl, DataEndpoint Data, long MemoryBytes, int Cpus, IReadOnlyList<MachineKind> Machines, string Version, SiteName? Site = null);

/// <summary>The answer to a registration: the ports for agents of all control nodes that are up. The host registers with each of them.</summary>
public sealed record RegistrationAnswer(IReadOnlyList<Uri> ControlUrls);

/// <summary>
/// GET {agent}/agent/v1/facts?after=V: answered when the version is above V (long poll, at most 20 s; a second when only numbers rose), always with the whole truth.
/// A version is comparable only within one incarnation.
/// </summary>
public sealed record HostFacts(HostName Host, Guid Incarnation, long Version, DataEndpoint Data, long MemoryFreeBytes, IReadOnlyList<VmFact> Vms)
{
    /// <summary>
    /// The same facts, with those that have not changed since <paramref name="earlier"/> taken from there. Every answer holds every VM of its host and replaces the one before: what a control
    /// node keeps of a thousand hosts would otherwise be new with each answer, and the collector would copy all of it again and again while decisions wait.
    /// Both lists are in the order of names, as agents give them; where one is not, less is shared.
    /// </summary>
    public HostFacts Sharing(HostFacts? earlier)
    {
        if (earlier is null)
            return this;
        var vms = new VmFact[Vms.Count];
        int at = 0;
        for (int i = 0; i < vms.Length; i++)
        {
            var fact = Vms[i];
            while (at < earlier.Vms.Count && string.CompareOrdinal(earlier.Vms[at].Name.Value, fact.Name.Value) < 0)
                at++;
            vms[i] = at < earlier.Vms.Count && earlier.Vms[at].Name == fact.Name ? Shared(fact, earlier.Vms[at]) : fact;
        }

        return this with { Vms = vms };
    }

    private static VmFact Shared(VmFact fact, VmFact earlier) =>
        fact == earlier ? earlier : fact.Spec == earlier.Spec ? fact with { Spec = earlier.Spec } : fact;
}

/// <summary>The stable error object of every HTTP answer that is not 2xx.</summary>
public sealed record ErrorBody(string Code, string Message, string? Hint, string? Id);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip,
    AllowOutOfOrderMetadataProperties = true,
    MaxDepth = 32,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(AgentCommand))]
[JsonSerializable(typeof(CommandResult))]
[JsonSerializable(typeof(HostRegistration))]
[JsonSerializable(typeof(RegistrationAnswer))]
[JsonSerializable(typeof(HostFacts))]
[JsonSerializable(typeof(ErrorBody))]
[JsonSerializable(typeof(VmSpec))]
[JsonSerializable(typeof(SourceFact))]
[JsonSerializable(typeof(DestinationFact))]
public sealed partial class AgentJson : JsonSerializerContext;
