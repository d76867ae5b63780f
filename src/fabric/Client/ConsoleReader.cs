using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Client;

/// <summary>
/// Reads a VM's serial line on and on, also across moves: every host keeps what the VM wrote there, so after a move reading goes on with
/// the new host's log, from where it was left if the VM had been there before. One user at a time.
/// </summary>
public sealed class ConsoleReader(ControlClient client, VmName vm)
{
    private readonly Dictionary<HostName, long> _offsets = [];

    /// <summary>The text since the last call; empty when there is none yet.</summary>
    public async Task<string> ReadAsync(CancellationToken cancellation)
    {
        // Asked before and after: text that was read while the VM changed hosts belongs to neither offset for sure.
        if ((await client.VmAsync(vm, cancellation)).Host is not { } host)
            return "";
        long offset = _offsets.GetValueOrDefault(host);
        var chunk = await client.ConsoleAsync(vm, offset, cancellation);
        if ((await client.VmAsync(vm, cancellation)).Host != host)
            return "";
        _offsets[host] = Math.Max(offset, chunk.NextOffset);
        return chunk.Text;
    }
}
