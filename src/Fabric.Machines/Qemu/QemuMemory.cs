using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>
/// A QEMU guest's RAM: a file in tmpfs that QEMU and this agent both map. Writes are tracked and missing pages trapped in <em>QEMU's</em> address space,
/// through the one userfaultfd that the shim handed out.
/// <para>
/// One range, two modes, and the kernel's rules about changing them: asking for more modes is one atomic step; asking for fewer is ignored; only
/// unregistering takes a mode away, and it wakes waiters, to whom a hole then reads as zeros. Therefore write protection is left
/// registered while a trap exists even when nobody tracks any more, and a trap's end re-registers write protection, which makes
/// everything count as written: too much is sent, never too little. <c>_gate</c> guards <c>_modes</c> and <c>_tracking</c>: the trap may
/// be disposed by another thread than the one that scans.
/// </para>
/// </summary>
internal sealed class QemuMemory : IGuestMemory, IDisposable
{
    /// <summary>8 MiB: about a quarter of a millisecond.</summary>
    private const int MapAtOnce = 2048;

    /// <summary>16 GiB: unmapping takes some 20 ms for each GiB that is mapped.</summary>
    private const long WatchedMost = 16L << 18;

    /// <summary>64 MiB: about a millisecond.</summary>
    private const int UnmapAtOnce = 16384;

    /// <summary>Milliseconds, for one piece.</summary>
    private const int UnmapDeadline = 1000;

    private readonly SparseFile _file;
    private readonly MappedMemory _mapping;
    private readonly UserFault _fault;
    private readonly bool _canMap;
    private readonly TouchWatch _watch;
    private readonly PagemapScan _scan;
    private readonly DirtyTracker _tracker;
    private readonly ulong _guestBase;
    private readonly Lock _gate = new();
    private UserFaultModes _modes;
    private DirtyTracking? _tracking; // the one that counts
    private MissingPageTrap? _trap;

    /// <summary>Takes ownership of all of them.</summary>
    private QemuMemory(
        SparseFile file, MappedMemory mapping, UserFault fault, UserFaultFeatures features, TouchWatch watch, PagemapScan scan, FileMapping guest, ProcessHandle process)
    {
        _file = file;
        _mapping = mapping;
        _fault = fault;
        _canMap = features.HasFlag(UserFaultFeatures.MinorSharedMemory);
        _watch = watch;
        _scan = scan;
        _tracker = new DirtyTracker(scan, file, mapping.Address);
        _guestBase = guest.Start;
        _modes = guest.Modes;
        Process = process;
        PageCount = file.Length / VmSpec.PageSize;
    }

    public int PageSize => VmSpec.PageSize;

    public long PageCount { get; }

    public nint Address => _mapping.Address;

    public IDisposable Pin() => new MemoryPin(_mapping.Pin(), _file.Handle);

    public bool TryRead(PageRun run, nint target)
    {
        PageBytes.ReadFile(_file.Handle, run.First * PageSize, target, (long)run.Count * PageSize);
        return true;
    }

    public bool TryFill(PageRun run, nint source)
    {
        PageBytes.WriteFile(_file.Handle, run.First * PageSize, source, (long)run.Count * PageSize);
        return true;
    }

    /// <summary>
    /// A first touch costs a guest about a microsecond, a page that is mapped here a seventh of that, and nobody waits for it. Write faults are as cheap as reads then: pages of a shared file are mapped writable.
    /// </summary>
    public void MapAhead(PageBitmap pages, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(pages);
        lock (_gate)
        {
            if (!_canMap || _modes != UserFaultModes.None)
                return;
            Require(UserFaultModes.Minor);
            try
            {
                for (long from = 0; from < PageCount && !cancellation.IsCancellationRequested && pages.TryNextRun(from, MapAtOnce, out PageRun run); from = run.End)
                {
                    var (start, length) = Locate(run);
                    if (_fault.Continue(start, length) == UserFaultResult.ProcessGone)
                        return;
                }
            }
            catch (FabricException)
            {
                // What is not mapped the guest maps itself, by its faults. That the mode ends is another matter: nobody would answer them.
            }
            finally
            {
                if (!Process.HasExited)
                    Release();
            }
        }
    }

    internal ProcessHandle Process { get; }

    internal UserFault Fault => _fault;

    internal GuestTranslations? Translations => _watch.Translations;

    private ulong Bytes => (ulong)_file.Length;

    /// <summary>Opens the RAM of a running QEMU; on failure nothing stays open but what the caller brought.</summary>
    /// <param name="fault">Owned by the memory from here on, also when this throws; and so is what <paramref name="watch"/> has.</param>
    /// <param name="features">What the kernel granted <paramref name="fault"/>.</param>
    /// <param name="withModes">True when an earlier agent may have registered the range.</param>
    internal static QemuMemory Open(string path, ProcessHandle process, UserFault fault, UserFaultFeatures features, TouchWatch watch, bool withModes)
    {
        SparseFile? file = null;
        MappedMemory? mapping = null;
        try
        {
            file = SparseFile.Open(path);
            mapping = MappedMemory.MapFile(file.Handle, file.Length);
            var guest = ProcessMappings.Find(process.Identity.ProcessId, path, file.Length, withModes);
            var scan = new PagemapScan(process.Identity.ProcessId, guest.Start, file.Length);
            return new QemuMemory(file, mapping, fault, features, watch, scan, guest, process);
        }
        catch
        {
            mapping?.Dispose();
            file?.Dispose();
            watch.Dispose();
            fault.Dispose();
            throw;
        }
    }

    public void ReadPresence(PageBitmap present) => _file.ReadPresence(present);

    public long? CountPresent() => _file.CountPresent();

    public void KeepPresent(PageBitmap pages) => _file.KeepPresent(pages, Address);

    // A fresh registration counts every page as written, an old one what was written since: both are thrown away.
    public IDirtyTracking StartDirtyTracking() => Start(_tracker.Start);

    public IDirtyTracking StartDirtyTracking(PageBitmap present, Action<long> reached) => Start(() => _tracker.Start(present, reached));

    private DirtyTracking Start(Action arm)
    {
        lock (_gate)
        {
            _tracking = null;
            try
            {
                Require(UserFaultModes.WriteProtect);
                arm();
            }
            catch
            {
                StopDirtyTracking();
                throw;
            }

            return _tracking = new DirtyTracking(Scan, End);
        }
    }

    // Only while no writes are recorded: a transfer asks in that order.
    public bool WatchTouches(CancellationToken cancellation)
    {
        if (!UnmapAll(cancellation))
            return false;
        // What is read from now on is seen: not before all is unmapped, or it would not be read again. It takes longer than all else and nobody waits for it.
        Translations?.LookAnew();
        return true;
    }

    private bool UnmapAll(CancellationToken cancellation)
    {
        lock (_gate)
        {
            if (_watch.Unmapper is not { } unmapper || _tracking is not null || _modes != UserFaultModes.None || PageCount > WatchedMost)
                return false;
            for (long page = 0; page < PageCount; page += UnmapAtOnce)
            {
                cancellation.ThrowIfCancellationRequested();
                var (start, length) = Locate(new PageRun(page, (int)Math.Min(UnmapAtOnce, PageCount - page)));
                unmapper.Unmap(start, length, UnmapDeadline);
            }

            return true;
        }
    }

    public void ReadTouches(PageBitmap touched)
    {
        ArgumentNullException.ThrowIfNull(touched);
        lock (_gate)
            _scan.FindPresent(touched);
    }

    private long Scan(DirtyTracking tracking, PageBitmap dirty, PageBitmap? asked)
    {
        lock (_gate)
        {
            tracking.MustBe(_tracking);
            return _tracker.Scan(dirty, asked);
        }
    }

    private void End(DirtyTracking tracking)
    {
        lock (_gate)
        {
            if (tracking == _tracking)
                StopDirtyTracking();
        }
    }

    public void StopDirtyTracking()
    {
        lock (_gate)
        {
            _tracking = null;
            // Unregistering would end the trap as well, and answer its waiters with zeros.
            if (_trap is null && !_modes.HasFlag(UserFaultModes.Missing))
                Release();
        }
    }

    public void Discard(PageRun run)
    {
        Check(run);
        _file.PunchHole(run.First * PageSize, (long)run.Count * PageSize);
    }

    public IMissingPageTrap TrapMissing()
    {
        lock (_gate)
        {
            if (_trap is not null)
                throw new InvalidOperationException("A trap for missing pages is set already.");
            Require(UserFaultModes.Missing);
            return _trap = new MissingPageTrap(this);
        }
    }

    internal void EndTrap(MissingPageTrap trap)
    {
        lock (_gate)
        {
            if (_trap != trap)
                return;
            _trap = null;
            if (Process.HasExited)
                return;
            Release();
            if (_tracking is not null)
                Require(UserFaultModes.WriteProtect);
        }
    }

    /// <summary>Where a run lies in QEMU's address space, and its bytes.</summary>
    internal (ulong Start, ulong Length) Locate(PageRun run)
    {
        Check(run);
        return (_guestBase + ((ulong)run.First * (ulong)PageSize), (ulong)run.Count * (ulong)PageSize);
    }

    internal long PageAt(ulong address) => (long)(address - _guestBase) / PageSize;

    /// <summary>Lets go of everything; the registrations stay, and the guest's faults wait for the next agent.</summary>
    public void Dispose()
    {
        MissingPageTrap? trap;
        lock (_gate)
        {
            trap = _trap;
            _trap = null;
        }

        trap?.Abandon();
        _scan.Dispose();
        _watch.Dispose();
        _fault.Dispose();
        _mapping.Dispose();
        _file.Dispose();
    }

    private void Require(UserFaultModes modes)
    {
        if ((_modes & modes) == modes)
            return;
        _fault.Register(_guestBase, Bytes, _modes | modes);
        _modes |= modes;
    }

    private void Release()
    {
        if (_modes == UserFaultModes.None)
            return;
        _fault.Unregister(_guestBase, Bytes);
        _modes = UserFaultModes.None;
    }

    private void Check(PageRun run)
    {
        if (run.First < 0 || run.Count <= 0 || run.End > PageCount)
            throw new ArgumentOutOfRangeException(nameof(run), run, $"The guest has {PageCount} pages.");
    }
}
