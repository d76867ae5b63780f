using Fabric.Core;

namespace Fabric.Cli.Client;

/// <summary>
/// Reads a VM's serial line on and on, also across moves: every host keeps the part that the VM wrote there, so after a move
/// reading begins anew at the new host's part. One user at a time.
/// </summary>
public sealed class ConsoleReader(ControlClient client, VmName vm)
{
    private HostName? _host;
    private long _offset;

    /// <summary>The text since the last call; empty when there is none yet.</summary>
    public async Task<string> ReadAsync(CancellationToken cancellation)
    {
        // Asked before and after: text that was read while the VM changed hosts belongs to neither offset for sure.
        var before = (await client.VmAsync(vm, cancellation)).Host;
        if (before != _host)
        {
            _host = before;
            _offset = 0;
        }

        var chunk = await client.ConsoleAsync(vm, _offset, cancellation);
        var after = (await client.VmAsync(vm, cancellation)).Host;
        if (after != _host)
            return "";
        _offset = Math.Max(_offset, chunk.NextOffset);
        return chunk.Text;
    }
}
