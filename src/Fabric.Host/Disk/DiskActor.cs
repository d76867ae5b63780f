// One VM's disks on this host. Today: disks on shared storage only. QEMU takes the image locks when the VM may run and releases them
// with the device state, so handing the lock over needs nothing but the order of the switch-over; this actor refuses what that order
// cannot carry (a disk on local storage, an image that is not there) before anything is started.
using Fabric.Actors;
using Fabric.Core;

namespace Fabric.Host.Disk;

internal sealed class DiskActor(DiskMetrics metrics) : Actor<DiskMessage>
{
    private DiskState _state = new DiskState.Unchecked();

    protected override ValueTask ReceiveAsync(DiskMessage message)
    {
        switch (message)
        {
            case CheckOutgoing m: Answer(m.Spec, m.Reply, NotShared(m.Spec)); break;
            case CheckIncoming m: Answer(m.Spec, m.Reply, NotShared(m.Spec) ?? NotReachable(m.Spec)); break;
        }

        return ValueTask.CompletedTask;
    }

    private void Answer(VmSpec spec, IReply<bool> reply, FabricError? refusal)
    {
        _state = refusal is null ? new DiskState.Movable(spec.Disks.Count) : new DiskState.Refused(refusal);
        if (_state is DiskState.Refused refused)
        {
            metrics.Refused();
            reply.Fail(refused.Why);
            return;
        }

        reply.Succeed(true);
    }

    private static FabricError? NotShared(VmSpec spec) => spec.Disks.FirstOrDefault(d => !d.Shared) is { } local
        ? new FabricError(ErrorCodes.Unsupported, $"Disk {local.Path} of VM '{spec.Name}' is on local storage; this version moves VMs with shared disks only.", "Put the image on storage that every host reaches and create the VM with --disk PATH,shared.")
        : null;

    private static FabricError? NotReachable(VmSpec spec) => spec.Disks.FirstOrDefault(d => !File.Exists(d.Path)) is { } absent
        ? new FabricError(ErrorCodes.NotFound, $"Disk {absent.Path} of VM '{spec.Name}' is not there on this host.", "Mount the shared storage at the same path.")
        : null;
}
