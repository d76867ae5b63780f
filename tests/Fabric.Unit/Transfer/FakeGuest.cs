using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// Guest memory without a guest: anonymous pages, presence and dirty bits in software, and a trap whose "guest" reads through
/// <see cref="GuestRead"/>. Guest accesses take the lock, so each is atomic beside installs, as with a real userfaultfd; what the transfer reads and
/// writes by address takes none, as with real memory.
/// </summary>
internal sealed partial class FakeGuest : IGuestMemory, IDisposable
{
    private readonly object _gate = new();
    private readonly MappedMemory _memory;
    private readonly PageBitmap _present;
    private readonly PageBitmap _dirty;
    private readonly PageBitmap _touched;
    private readonly bool _receives;
    private DirtyTracking? _tracking;
    private FakeTrap? _trap;
    private long _wakes;
    private int _scans;

    /// <param name="receives">True: a destination, whose pages begin to exist when they are written by address.</param>
    public FakeGuest(long pages, bool receives)
    {
        PageCount = pages;
        _memory = MappedMemory.Anonymous(pages * PageSize);
        _present = new PageBitmap(pages);
        _dirty = new PageBitmap(pages);
        _touched = new PageBitmap(pages);
        _receives = receives;
    }

    public int PageSize => VmSpec.PageSize;

    public long PageCount { get; }

    public nint Address => _memory.Address;

    public IDisposable Pin() => _memory.Pin();

    /// <summary>A page whose writes dirty tracking misses from now on: a planted defect.</summary>
    public long BlindPage { get; set; } = -1;

    /// <summary>Called, without the lock, between a page's install and whatever its installer does next.</summary>
    public Action<PageRun>? WhenInstalled { get; set; }

    /// <summary>Called before a dirty scan looks, with how many scans there were: what the guest writes just then.</summary>
    public Action<int>? BeforeScan { get; set; }

    /// <summary>Called, without the lock, after pages were discarded.</summary>
    public Action<PageRun>? WhenDiscarded { get; set; }

    public int Traps { get; private set; }

    public bool IsTrapped => _trap is not null;

    public bool IsTracking => _tracking is not null;

    /// <summary>Whether pages are copied for who reads them, or read where they are.</summary>
    public bool Copies { get; set; } = true;

    public bool TryRead(PageRun run, nint target)
    {
        if (Copies)
            PageBytes.Copy(Address + (nint)(run.First * PageSize), target, (long)run.Count * PageSize);
        return Copies;
    }

    /// <summary>Whether touches can be watched here, and what asking comes to.</summary>
    public Func<bool> Watch { get; set; } = () => true;

    /// <summary>What mapping ahead does; it is given the pages and what calls it off.</summary>
    public Action<PageBitmap, CancellationToken> WhenMapped { get; set; } = (_, _) => { };

    public void MapAhead(PageBitmap pages, CancellationToken cancellation) => WhenMapped(pages, cancellation);

    private int _looks;

    public bool WatchTouches(CancellationToken cancellation)
    {
        if (!Watch())
            return false;
        lock (_gate)
        {
            Assert.False(IsTracking, "Touches are watched before writes are recorded, or a write could be lost.");
            _touched.Clear();
            return true;
        }
    }

    /// <summary>What the guest does just before it is looked at; it is given the number of the look, from 1.</summary>
    public Action<int> WhenLookedAt { get; set; } = _ => { };

    public void ReadTouches(PageBitmap touched)
    {
        WhenLookedAt(++_looks);
        lock (_gate)
            touched.Or(_touched);
    }

    /// <summary>How often what exists was gone over.</summary>
    public int Walks { get; private set; }

    public void ReadPresence(PageBitmap present)
    {
        Walks++;
        lock (_gate)
            present.CopyFrom(_present);
    }

    public long? CountPresent()
    {
        lock (_gate)
            return _present.CountSet();
    }

    /// <summary>A page that never was begins to exist, unwritten: somebody read it.</summary>
    public void MakeByReading(long page)
    {
        lock (_gate)
            _present[page] = true;
    }

    public IDirtyTracking StartDirtyTracking()
    {
        lock (_gate)
        {
            _dirty.Clear();
            return _tracking = new DirtyTracking(Scan, End);
        }
    }

    /// <summary>Called, without the lock, before a piece of <see cref="PiecePages"/> is armed and looked at, with its first page.</summary>
    public Action<long> BeforePiece { get; set; } = _ => { };

    public const int PiecePages = 512;

    public IDirtyTracking StartDirtyTracking(PageBitmap present, Action<long> reached)
    {
        Walks++;
        var tracking = StartDirtyTracking();
        present.Clear();
        try
        {
            Arm(present, reached);
            return tracking;
        }
        catch
        {
            tracking.Dispose();
            throw;
        }
    }

    private void Arm(PageBitmap present, Action<long> reached)
    {
        for (long first = 0, end; first < PageCount; first = end)
        {
            BeforePiece(first);
            end = Math.Min(first + PiecePages, PageCount);
            lock (_gate)
            {
                for (long page = first; page < end; page++)
                {
                    _dirty[page] = false;
                    present[page] = _present[page];
                }
            }

            reached(end);
        }
    }

    /// <summary>Leaves out whatever it may.</summary>
    private long Scan(DirtyTracking tracking, PageBitmap dirty, PageBitmap? asked)
    {
        BeforeScan?.Invoke(_scans++);
        lock (_gate)
        {
            tracking.MustBe(_tracking);
            var found = new PageBitmap(PageCount);
            found.CopyFrom(_dirty);
            if (asked is not null)
                found.And(asked);
            dirty.Or(found);
            _dirty.AndNot(found);
            return found.CountSet();
        }
    }

    private void End(DirtyTracking tracking)
    {
        lock (_gate)
        {
            if (tracking == _tracking)
                _tracking = null;
        }
    }

    public void StopDirtyTracking()
    {
        lock (_gate)
            _tracking = null;
    }

    /// <summary>Memories with an even number of pages offer it, the others do not: both ways are tested.</summary>
    public bool TryFill(PageRun run, nint source)
    {
        if (PageCount % 2 != 0)
            return false;
        PageBytes.Copy(source, At(run.First), (long)run.Count * PageSize);
        return true;
    }

    public void Discard(PageRun run)
    {
        lock (_gate)
        {
            PageBytes.Fill(At(run.First), (long)run.Count * PageSize, 0);
            _present.ClearRun(run);
        }

        WhenDiscarded?.Invoke(run);
    }

    public IMissingPageTrap TrapMissing()
    {
        lock (_gate)
        {
            if (_trap is not null)
                throw new InvalidOperationException("One trap at a time.");
            Traps++;
            // Until the trap is armed only the transfer writes here, by address: what is not zero exists.
            if (_receives && Traps == 1)
            {
                for (long page = 0; page < PageCount; page++)
                    _present[page] = !PageBytes.IsZero(At(page), PageSize);
            }

            return _trap = new FakeTrap(this);
        }
    }

    /// <summary>The guest writes a page full of a value derived from the page and the version.</summary>
    public void GuestWrite(long page, ulong version)
    {
        lock (_gate)
        {
            AwaitPage(page);
            PageBytes.Fill(At(page), PageSize, (byte)(1 + ((ulong)page * 31 + version) % 251));
            // The first words differ from page to page, so that no two pages are equal by accident.
            PageBytes.Fill(At(page), 8, (byte)((ulong)page >> 8));
            PageBytes.Fill(At(page) + 16, 8, (byte)(version >> 8));
            Touched(page);
        }
    }

    /// <summary>The guest fills a page with bytes that nothing can pack.</summary>
    public void GuestNoise(long page, Random random)
    {
        byte[] noise = new byte[PageSize];
        random.NextBytes(noise);
        lock (_gate)
        {
            AwaitPage(page);
            System.Runtime.InteropServices.Marshal.Copy(noise, 0, At(page), PageSize);
            Touched(page);
        }
    }

    /// <summary>The guest writes eight bytes of a page.</summary>
    public void GuestNudge(long page, int word, byte value)
    {
        lock (_gate)
        {
            AwaitPage(page);
            PageBytes.Fill(At(page) + (word * 8), 8, value);
            Touched(page);
        }
    }

    public void GuestZero(long page)
    {
        lock (_gate)
        {
            AwaitPage(page);
            PageBytes.Fill(At(page), PageSize, 0);
            Touched(page);
        }
    }

    /// <summary>The guest gives a page back (balloon): a hole.</summary>
    public void GuestGiveBack(long page)
    {
        lock (_gate)
        {
            PageBytes.Fill(At(page), PageSize, 0);
            _present[page] = false;
        }
    }

    /// <summary>The guest reads a page: its digest, after waiting for it if it is missing and trapped.</summary>
    /// <param name="reported">Called under the lock when the fault, if there is one, has been reported.</param>
    public UInt128 GuestRead(long page, Action? reported = null)
    {
        lock (_gate)
        {
            AwaitPage(page, reported);
            _touched[page] = true;
            return Xxh3.Hash128(At(page), PageSize);
        }
    }

    public UInt128 Peek(long page) => Xxh3.Hash128(At(page), PageSize);

    public void Dispose() => _memory.Dispose();

    /// <summary>The agent died: the trap's owner is gone, the trap itself stays, and its next owner is given a new handle.</summary>
    public void ForgetTrapOwner()
    {
        lock (_gate)
            _trap = null;
    }

    private nint At(long page) => _memory.Address + (nint)(page * PageSize);

    private void Touched(long page)
    {
        _present[page] = true;
        _touched[page] = true;
        if (IsTracking && page != BlindPage)
            _dirty[page] = true;
    }

    /// <summary>Waits until everything that was reported has been taken and its taker waits for more.</summary>
    public void AwaitFaultsTaken()
    {
        lock (_gate)
        {
            while (_trap is { IsIdle: false })
            {
                if (!Monitor.Wait(_gate, TimeSpan.FromSeconds(20)))
                    throw new TimeoutException("Nobody took the reported faults within 20 s.");
            }
        }
    }

    private void AwaitPage(long page, Action? reported = null)
    {
        if (Traps == 0 || !_receives)
            return;
        while (!_present[page] && !TrapGone)
        {
            _trap?.Report(page);
            reported?.Invoke();
            // As in the kernel: a fault is reported once, and again only after the waiter was woken.
            for (long woken = _wakes; woken == _wakes;)
            {
                if (!Monitor.Wait(_gate, TimeSpan.FromSeconds(20)))
                    throw new TimeoutException($"Nobody installed page {page} within 20 s.");
            }
        }
    }

    private void WakeWaiters()
    {
        _wakes++;
        Monitor.PulseAll(_gate);
    }

    private bool TrapGone { get; set; }
}
