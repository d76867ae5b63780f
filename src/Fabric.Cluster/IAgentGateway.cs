using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Cluster;

/// <summary>How a control node talks to host agents: HTTP/2 in production, memory in tests and simulation.</summary>
public interface IAgentGateway
{
    /// <summary>Asks an agent to do something. Exceptions (unreachable, deadline-exceeded) mean <em>unknown</em>: ask for facts or repeat the same id.</summary>
    Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation);

    /// <summary>Long poll; see <see cref="HostFacts"/>.</summary>
    Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation);

    Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation);
}
