using Fabric.Daemon.Configuration;
using Fabric.Native;

namespace Fabric.Daemon;

/// <summary>
/// An ephemeral cluster (a demo, a test) ends with the process that made it, however that ended: its pidfd tells. Pid and start time
/// are compared, so that another process with a reused pid is never taken for the owner.
/// </summary>
internal sealed class OwnerWatch : IDisposable
{
    private readonly DeathWatch _watch = new();
    private readonly ProcessHandle? _owner;

    public OwnerWatch(OwnerProcess owner)
    {
        _owner = ProcessHandle.TryOpen(owner.ProcessId);
        bool same = _owner is not null && (owner.StartTime is null || owner.StartTime == _owner.Identity.StartTicks);
        Gone = same ? _watch.WhenExited(_owner!) : Task.CompletedTask;
    }

    /// <summary>Completes when the owner has ended (or had already); cancelled at disposal.</summary>
    public Task Gone { get; }

    public void Dispose()
    {
        _watch.Dispose();
        _owner?.Dispose();
    }
}
