using Fabric.Core;

namespace Fabric.Machines;

/// <summary>What the machine is doing, as the hypervisor itself says.</summary>
public enum MachineStatus
{
    /// <summary>vCPUs run.</summary>
    Running,

    /// <summary>vCPUs stand; the machine has its state and may be continued.</summary>
    Paused,

    /// <summary>The machine waits for a device state; its vCPUs cannot run yet.</summary>
    AwaitingState,

    /// <summary>The guest shut down, or the hypervisor's process is gone.</summary>
    Exited,
}

/// <summary>How a machine begins its life on a host.</summary>
public enum MachineBirth
{
    /// <summary>It boots.</summary>
    Boot,

    /// <summary>It waits for a device state and its memory from another host.</summary>
    Incoming,
}

/// <summary>
/// One virtual machine on this host: what the agent may ask of any hypervisor. All members are safe to call from one
/// caller at a time; every call has a deadline of its own and ends when <c>cancellation</c> fires.
/// <para>Disposing a machine lets go of it (the guest runs on and may be adopted later); only <see cref="KillAsync"/> ends it.</para>
/// </summary>
public interface IMachine : IAsyncDisposable
{
    VmSpec Spec { get; }

    IGuestMemory Memory { get; }

    /// <summary>Null where the machine has no balloon device.</summary>
    IBalloon? Balloon { get; }

    /// <summary>Null where nothing can hold the guest back.</summary>
    IThrottle? Throttle => null;

    /// <summary>Everything a restarted agent needs to adopt this machine; JSON, kept by the agent beside its ledger.</summary>
    string AdoptionRecord { get; }

    /// <summary>The hypervisor's process, or null for a machine that lives inside the agent.</summary>
    int? ProcessId { get; }

    /// <summary>Completes when the machine is gone, whoever ended it, with a sentence that says how.</summary>
    Task<string> Exited { get; }

    /// <summary>Path of the file that holds what the guest wrote on its serial line.</summary>
    string ConsoleLog { get; }

    /// <summary>The clock's time stamp when the hypervisor last let the vCPUs run; null where that is not known. Any thread.</summary>
    long? RunsSince => null;

    /// <summary>The same for when they last had stopped.</summary>
    long? StandsSince => null;

    ValueTask<MachineStatus> QueryStatusAsync(CancellationToken cancellation);

    /// <summary>Stops the vCPUs; in-flight disk requests are finished. Idempotent.</summary>
    ValueTask StopAsync(CancellationToken cancellation);

    /// <summary>Lets the vCPUs run. Only the owner of the run token calls this. Idempotent.</summary>
    ValueTask ContinueAsync(CancellationToken cancellation);

    /// <summary>
    /// Tells every switch on the way that the guest's network cards are here now, first at once and then again for about two seconds, beside the guest. For after
    /// <see cref="ContinueAsync"/>: of two machines that announce one address the wrong one may be believed. Unlike the others it may be called beside another call.
    /// </summary>
    ValueTask AnnounceAsync(CancellationToken cancellation) => ValueTask.CompletedTask;

    /// <summary>
    /// Serializes everything but RAM, with the vCPUs stopped. May write to guest memory: scan for dirty pages afterwards.
    /// <paramref name="releaseDisks"/> also lets go of the disk image locks (a hand-over); without it they are kept (a checkpoint).
    /// </summary>
    ValueTask<byte[]> SaveDeviceStateAsync(bool releaseDisks, CancellationToken cancellation);

    /// <summary>
    /// <see cref="StopAsync"/> and, right behind it, <see cref="SaveDeviceStateAsync"/>: returns when the vCPUs stand, with the state that is being saved. A hypervisor that takes both orders at once need not
    /// wait for this agent in between, and the guest stands that much shorter. If this throws, or is called off, the disks may have been released.
    /// </summary>
    async ValueTask<Task<byte[]>> StopAndSaveAsync(bool releaseDisks, CancellationToken cancellation)
    {
        await StopAsync(cancellation);
        return SaveDeviceStateAsync(releaseDisks, cancellation).AsTask();
    }

    /// <summary>
    /// Loads a device state into a machine born <see cref="MachineBirth.Incoming"/>; on return it is <see cref="MachineStatus.Paused"/>.
    /// Touches guest memory: missing pages must already be served.
    /// </summary>
    ValueTask LoadDeviceStateAsync(ReadOnlyMemory<byte> state, CancellationToken cancellation);

    /// <summary>Takes the disk locks again after <see cref="SaveDeviceStateAsync"/> released them and the hand-over was withdrawn.</summary>
    ValueTask ReclaimDisksAsync(CancellationToken cancellation);

    /// <summary>Ends the machine for good and removes its memory, sockets and files on this host (not its disks). Idempotent.</summary>
    ValueTask KillAsync(CancellationToken cancellation);
}

/// <summary>
/// The guest's RAM as pages 0 … <see cref="PageCount"/> − 1 of one file. Methods are called by one thread at a time
/// unless they say otherwise.
/// </summary>
public interface IGuestMemory
{
    /// <summary>Bytes of a page: 4096.</summary>
    int PageSize { get; }

    long PageCount { get; }

    /// <summary>
    /// Address of the agent's own mapping of page 0. It is valid until the machine is disposed, or the last pin is. Rules: at the source any present page
    /// may be read; at a destination a page may be written before the guest runs, and after that a page must not be
    /// touched until it has arrived (a touch would create a zero page). Only <c>Fabric.Native</c> follows this address.
    /// </summary>
    nint Address { get; }

    /// <summary>
    /// Keeps <see cref="Address"/> valid until the result is disposed, also when the machine ends and is disposed meanwhile. Every thread that follows the
    /// address does so under a pin: its machine may die at any moment. Any thread.
    /// </summary>
    /// <exception cref="FabricException">machine-failed: the machine was disposed already.</exception>
    IDisposable Pin();

    /// <summary>
    /// Copies pages, as they are at that moment, to <paramref name="target"/>; holes are zeros, and stay holes. Where it is offered it is cheaper than to follow <see cref="Address"/>, whose first touch of a page
    /// is a fault. False: not offered, nothing was copied. Any thread, under a pin.
    /// </summary>
    /// <exception cref="FabricException">native.</exception>
    bool TryRead(PageRun run, nint target) => false;

    /// <summary>Sets exactly the bits of the pages that exist (a page that was never touched, or was given back, is a hole and reads as zeros).</summary>
    void ReadPresence(PageBitmap present);

    /// <summary>How many pages exist, where that can be told without going over them; null otherwise. Any thread.</summary>
    long? CountPresent() => null;

    /// <summary>Clears the bits of pages that do not exist. The work is that of the pages that are set, not that of the whole memory.</summary>
    void KeepPresent(PageBitmap pages)
    {
        ArgumentNullException.ThrowIfNull(pages);
        var present = new PageBitmap(PageCount);
        ReadPresence(present);
        pages.And(present);
    }

    /// <summary>Begins to record writes by the guest and its devices. What was recorded before is forgotten, and whoever had it recorded is told nothing any more. Where this throws, nothing is recorded.</summary>
    IDirtyTracking StartDirtyTracking();

    /// <summary>
    /// As <see cref="StartDirtyTracking()"/>, and as <see cref="ReadPresence"/> behind it: sets exactly the bits of the pages that exist. Where the memory can, it does so piece by piece from the first page on, and says
    /// how far it has come, since going over all that exists takes some 25 ms for each GiB.
    /// </summary>
    /// <param name="present">While this runs, bits from what was reached on are being written.</param>
    /// <param name="reached">Hears a page, a multiple of 64 or the end: the bits before it are as they stay, and writes to these pages are recorded. Called on this thread; short. What it throws calls the recording off.</param>
    IDirtyTracking StartDirtyTracking(PageBitmap present, Action<long> reached)
    {
        ArgumentNullException.ThrowIfNull(reached);
        var tracking = StartDirtyTracking();
        try
        {
            ReadPresence(present);
            reached(PageCount);
            return tracking;
        }
        catch
        {
            tracking.Dispose();
            throw;
        }
    }

    /// <summary>
    /// From now on the pages that the guest reads or writes are noted. Only while no writes are recorded, and writes may be recorded afterwards: a watch lasts until it is asked what it saw, any number of
    /// times. The guest pays about a microsecond for its first touch of each page. What its processors had taken in of its code may be seen some milliseconds later. False: not offered here.
    /// </summary>
    /// <exception cref="FabricException">The guest's machine does not answer: nothing is known of its touches, and nothing else is lost.</exception>
    bool WatchTouches(CancellationToken cancellation) => false;

    /// <summary>Adds the pages that the guest has touched since <see cref="WatchTouches"/> returned true.</summary>
    void ReadTouches(PageBitmap touched) => throw new NotSupportedException();

    /// <summary>Ends the recording, whoever began it, an earlier agent as well; the guest pays nothing afterwards. Idempotent.</summary>
    void StopDirtyTracking();

    /// <summary>
    /// Writes pages that are holes from memory outside the guest, through the memory's file and not through the mapping, which costs about half of
    /// what first touches cost. Only at a destination before the guest runs; any thread. False: not offered here, write to <see cref="Address"/>.
    /// </summary>
    bool TryFill(PageRun run, nint source) => false;

    /// <summary>
    /// Spares the guest the faults of its first touches: puts <paramref name="pages"/>, as far as they exist, where its processors find them. Only at a destination
    /// before the device state is loaded. Nothing depends on it; it may be called off between pieces of some milliseconds.
    /// </summary>
    void MapAhead(PageBitmap pages, CancellationToken cancellation)
    {
    }

    /// <summary>Turns the pages into holes. Only while the guest does not run here, or for pages known to be missing.</summary>
    void Discard(PageRun run);

    /// <summary>
    /// From now on an access of the guest to a hole waits until the page is installed. One trap at a time;
    /// disposing it makes holes read as zeros again and wakes every waiting vCPU.
    /// </summary>
    IMissingPageTrap TrapMissing();
}

/// <summary>What became of an install.</summary>
public enum InstallOutcome
{
    Installed,

    /// <summary>At least one page of the run was there already; that page was left as it is, the others were installed.</summary>
    SomeAlreadyPresent,

    /// <summary>The machine is gone.</summary>
    MachineGone,
}

/// <summary>
/// Holes that the guest waits for. <see cref="WaitFaults"/> belongs to one thread; installs may come from many threads at once.
/// </summary>
public interface IMissingPageTrap : IDisposable
{
    /// <summary>
    /// Blocks until a vCPU or device touches a hole, <see cref="Interrupt"/> is called, or the deadline passes. Fills in page numbers,
    /// possibly with repetitions, and returns how many; 0 for a deadline or an interrupt; −1 when the machine is gone.
    /// </summary>
    int WaitFaults(Span<long> pages, int deadlineMilliseconds);

    /// <summary>Makes a waiting or the next <see cref="WaitFaults"/> return at once. Any thread.</summary>
    void Interrupt();

    /// <summary>Copies the run from <paramref name="source"/> (page-aligned, <c>run.Count</c> pages) into the guest atomically and wakes its waiters.</summary>
    InstallOutcome Install(PageRun run, nint source);

    /// <summary>Makes the run read as zeros and wakes its waiters.</summary>
    InstallOutcome InstallZeros(PageRun run);

    /// <summary>Lets waiters on pages that are present try again. Harmless where nobody waits.</summary>
    void Wake(PageRun run);
}

/// <summary>Guest memory statistics in bytes, as the guest's balloon driver reports them; null where it does not say.</summary>
public sealed record BalloonStatistics(long? Free, long? Available, long? Total, long? MajorFaults, long? SwapIn, long? SwapOut, DateTimeOffset? ReportedAt);

public interface IBalloon
{
    /// <summary>Bytes of RAM that the guest has left to itself now.</summary>
    ValueTask<long> QueryActualAsync(CancellationToken cancellation);

    /// <summary>Asks the guest to shrink or grow to <paramref name="bytes"/>. Returns at once; watch <see cref="QueryActualAsync"/>.</summary>
    ValueTask SetTargetAsync(long bytes, CancellationToken cancellation);

    /// <summary>The last statistics; null before the guest's first report.</summary>
    ValueTask<BalloonStatistics?> QueryStatisticsAsync(CancellationToken cancellation);

    /// <summary>
    /// Whether the guest's driver has agreed to take memory out of the balloon itself before its kernel would kill a process for want of memory. False while there is no driver, and where
    /// the hypervisor does not say.
    /// </summary>
    ValueTask<bool> QueryDeflatesOnOomAsync(CancellationToken cancellation);
}

/// <summary>
/// Holds a running guest back, so that it writes less than the wire carries. Whoever sets it lifts it: nothing else does, except that a machine that is adopted, or let go of, is at its
/// full speed.
/// </summary>
public interface IThrottle
{
    /// <summary>
    /// Leaves the guest's vCPUs at most so many per cent, 1 to 99, of the CPU time that they could have. A <see cref="Lift"/> that is called before this returns wins.
    /// </summary>
    /// <exception cref="FabricException">unsupported: this host does not allow it; machine-failed: the machine is gone.</exception>
    ValueTask SetAsync(int percent, CancellationToken cancellation);

    /// <summary>The guest has its full speed again. At once, idempotent, any thread; harmless when the machine is gone.</summary>
    void Lift();
}

/// <summary>Makes machines of one kind and finds them again.</summary>
public interface IMachineFactory
{
    MachineKind Kind { get; }

    /// <summary>
    /// Starts a machine. <see cref="Accelerator.Auto"/> has been resolved. On any failure nothing is left behind.
    /// </summary>
    /// <exception cref="FabricException">machine-failed with the hypervisor's own words; exhausted when memory or a port is missing.</exception>
    ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation);

    /// <summary>
    /// Takes hold of a running machine again from its <see cref="IMachine.AdoptionRecord"/>; null when its process is gone (pid and start
    /// time are compared, so a recycled pid is never mistaken for it). What the process left is then removed.
    /// </summary>
    ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation);

    /// <summary>
    /// Ends every machine that this factory started on this host and that no record in <paramref name="adoptionRecords"/> names, with all that belongs to it:
    /// what an agent left that died between starting a machine and recording it. Called while no machine is being made: before any other member, or after all.
    /// </summary>
    ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation);
}
