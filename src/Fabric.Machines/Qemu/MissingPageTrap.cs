using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>
/// Holes that the guest waits for. One thread waits for faults, any thread installs. The owner stops both before it disposes the trap.
/// </summary>
internal sealed class MissingPageTrap : IMissingPageTrap
{
    private readonly QemuMemory _memory;
    private readonly EventSignal _interrupt = new();
    private int _ended;

    internal MissingPageTrap(QemuMemory memory) => _memory = memory;

    public int WaitFaults(Span<long> pages, int deadlineMilliseconds)
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _ended) != 0, this);
        switch (_memory.Fault.Wait(_interrupt, _memory.Process, deadlineMilliseconds))
        {
            case UserFaultWait.ProcessGone:
                return -1;
            case UserFaultWait.Interrupted:
                _interrupt.Clear();
                return 0;
            case UserFaultWait.Nothing:
                return 0;
        }

        Span<ulong> addresses = stackalloc ulong[UserFault.BatchSize];
        int count = _memory.Fault.ReadFaults(addresses[..Math.Min(addresses.Length, pages.Length)]);
        for (int i = 0; i < count; i++)
            pages[i] = _memory.PageAt(addresses[i]);
        return count;
    }

    public void Interrupt() => _interrupt.Set();

    public InstallOutcome Install(PageRun run, nint source)
    {
        var (start, length) = _memory.Locate(run);
        return Outcome(_memory.Fault.Copy(start, source, length));
    }

    public InstallOutcome InstallZeros(PageRun run)
    {
        var (start, length) = _memory.Locate(run);
        return Outcome(_memory.Fault.Zero(start, length));
    }

    public void Wake(PageRun run)
    {
        var (start, length) = _memory.Locate(run);
        _memory.Fault.Wake(start, length);
    }

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _ended, 1) != 0)
            return;
        _memory.EndTrap(this);
        _interrupt.Dispose();
    }

    /// <summary>The agent lets go of the machine: the trap stays set in the kernel, waiters go on waiting.</summary>
    internal void Abandon()
    {
        if (Interlocked.Exchange(ref _ended, 1) == 0)
            _interrupt.Dispose();
    }

    private static InstallOutcome Outcome(UserFaultResult result) => result switch
    {
        UserFaultResult.Done => InstallOutcome.Installed,
        UserFaultResult.SomePresent => InstallOutcome.SomeAlreadyPresent,
        _ => InstallOutcome.MachineGone,
    };
}
