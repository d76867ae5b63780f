using Fabric.Core;

namespace Fabric.Host;

/// <summary>One host's settings. Directories are absolute; they are made if they do not exist.</summary>
public sealed record HostAgentOptions
{
    public required HostName Name { get; init; }

    /// <summary>Maps of pages that are still to come (tmpfs): survive a restart of the agent, not of the host, exactly like the guests.</summary>
    public required string MemoryDirectory { get; init; }

    /// <summary>Bytes of RAM that guests may have here; null: what the host has.</summary>
    public long? MemoryBytes { get; init; }

    /// <summary>How often a machine that may run and does not answer is told to continue.</summary>
    public int ContinueAttempts { get; init; } = 100;
}
