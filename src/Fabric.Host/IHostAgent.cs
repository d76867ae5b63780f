using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Host;

/// <summary>One host's agent, as its HTTP endpoints and its tests see it.</summary>
public interface IHostAgent
{
    /// <summary>
    /// Executes a command at most once per id and answers it; a repeated id gets the stored answer, a lower epoch is refused.
    /// Never throws for a refusal: that is in the result.
    /// </summary>
    Task<CommandResult> ExecuteAsync(AgentCommand command, CancellationToken cancellation);

    /// <summary>All facts, as soon as their version is above <paramref name="after"/> or after <paramref name="wait"/>, whichever comes first.</summary>
    Task<HostFacts> FactsAsync(long after, TimeSpan wait, CancellationToken cancellation);

    /// <summary>At most <paramref name="most"/> bytes of a VM's serial line from <paramref name="offset"/>; null for an unknown VM.</summary>
    Task<byte[]?> ConsoleAsync(Fabric.Core.VmName vm, long offset, int most, CancellationToken cancellation);
}
