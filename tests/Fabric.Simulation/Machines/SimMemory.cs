using Fabric.Core;
using Fabric.Machines;

namespace Fabric.Simulation.Machines;

/// <summary>A machine's memory as its agent holds it. The simulated data plane moves versions of pages; nobody follows an address here.</summary>
internal sealed class SimMemory(SimMachine machine) : IGuestMemory
{
    internal SimMachine Machine => machine;

    public int PageSize => VmSpec.PageSize;

    public long PageCount => machine.Spec.PageCount;

    public nint Address => 0;

    public IDisposable Pin() => new NoPin();

    public void ReadPresence(PageBitmap present)
    {
        machine.Advance();
        present.Clear();
        for (long page = 0; page < PageCount; page++)
            present[page] = machine.IsPresent(page);
    }

    public IDirtyTracking StartDirtyTracking()
    {
        machine.Advance();
        machine.Dirty = new PageBitmap(PageCount);
        return machine.Tracking = new DirtyTracking(Scan, End);
    }

    private long Scan(DirtyTracking tracking, PageBitmap dirty, PageBitmap? asked)
    {
        tracking.MustBe(machine.Tracking);
        machine.Advance();
        var tracked = machine.Dirty!;
        machine.ForgetSomeDirty(tracked);
        long count = tracked.CountSet();
        dirty.Or(tracked);
        tracked.Clear();
        return count;
    }

    private void End(DirtyTracking tracking)
    {
        if (tracking == machine.Tracking)
            StopDirtyTracking();
    }

    public void StopDirtyTracking() => (machine.Tracking, machine.Dirty) = (null, null);

    public void Discard(PageRun run) => throw new NotSupportedException("The simulated data plane works on the machine itself.");

    public IMissingPageTrap TrapMissing() => throw new NotSupportedException("The simulated data plane works on the machine itself.");

    private sealed class NoPin : IDisposable
    {
        public void Dispose()
        {
        }
    }
}
