using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Synthetic;

// RAM with a memory management unit in software. One guest thread, any number of agent threads.
//
//   guest:  TryReach(page)
//             present bit set? ── yes ─▶ touch the bytes; after a write: MarkDirty
//                  │ no
//             trap armed? ── no ─▶ read: zeros, the hole stays · write: bit set under the stripe's lock, then as above
//                  │ yes
//             fault to the trap; the guest waits for an arrival (or a stop) and tries again
//
//   agent:  Install: under the stripe's lock: bit set? leave it : copy the bytes, then set the bit. Then wake the guest.
//
// Why that is right:
//   - The guest touches a page's bytes only when its present bit is set, and the bit is set (interlocked) after the copy: the guest sees
//     either no page or all of it.
//   - Two installs of one page exclude each other by the stripe's lock; the second finds the bit.
//   - A write is marked dirty *after* the bytes, by an interlocked operation. Had it been marked before, a scan could take the mark, the
//     copy read the old bytes, and the write be lost. As it is, a write that a copy misses is marked after it and copied again.
//   - Waiting: the guest looks at the bit under the arrival lock before it waits; whoever sets a bit pulses under that lock afterwards.
//     So an arrival between look and wait is not possible.
//   - Discarded bytes are given back, so a hole always reads as zeros, and bytes that are not zero are a page. That is how a page that an
//     agent wrote straight into the mapping (allowed before the guest first runs here) is found: by its content, under the stripe's lock,
//     when the guest first comes to it or presence is read. A page of zeros written that way is a hole, which says the same.

/// <summary>What the guest's access came to.</summary>
internal enum Reach
{
    /// <summary>The bytes may be touched.</summary>
    Present,

    /// <summary>A read of a hole: zeros.</summary>
    Zeros,

    /// <summary>The page has to come first; the fault was raised.</summary>
    Missing,
}

internal sealed class SyntheticMemory : IGuestMemory, IDisposable
{
    private const int Stripes = 64;

    /// <summary>Pages of one stripe in a row, so that installing a run takes few locks.</summary>
    private const int StripeShift = 8;

    private readonly MappedMemory _bytes;
    private readonly PageBitmap _present;
    private readonly PageBitmap _dirty;
    private readonly Lock[] _stripes = new Lock[Stripes];

    // Guards _gone and the waiting for arrivals.
    private readonly object _arrival = new();
    private volatile SyntheticTrap? _trap;
    private volatile bool _gone;
    private readonly Lock _scans = new();
    private volatile DirtyTracking? _tracking; // changed under _scans
    private volatile bool _hasRun;
    private volatile bool _directWrites;

    /// <param name="pages">Of RAM.</param>
    /// <param name="directWrites">An agent may write into the mapping before the guest runs.</param>
    internal SyntheticMemory(long pages, bool directWrites)
    {
        _directWrites = directWrites;
        _bytes = MappedMemory.Anonymous(pages * VmSpec.PageSize);
        _present = new PageBitmap(pages);
        _dirty = new PageBitmap(pages);
        for (int i = 0; i < Stripes; i++)
            _stripes[i] = new Lock();
    }

    public int PageSize => VmSpec.PageSize;

    public long PageCount => _present.Length;

    public nint Address => _bytes.Address;

    public IDisposable Pin() => _bytes.Pin();

    internal bool IsGone => _gone;

    public void ReadPresence(PageBitmap present)
    {
        ArgumentNullException.ThrowIfNull(present);
        FindDirectWrites();
        present.CopyFrom(_present);
    }

    public IDirtyTracking StartDirtyTracking()
    {
        lock (_scans)
        {
            for (long page = _dirty.NextSet(0); page >= 0; page = _dirty.NextSet(page + 1))
                _dirty.AtomicClear(page);
            return _tracking = new DirtyTracking(Scan, End);
        }
    }

    private long Scan(DirtyTracking tracking, PageBitmap dirty, PageBitmap? asked)
    {
        lock (_scans)
        {
            tracking.MustBe(_tracking);
            long found = 0;
            for (long page = _dirty.NextSet(0); page >= 0; page = _dirty.NextSet(page + 1))
            {
                if (!_dirty.AtomicClear(page))
                    continue;
                dirty[page] = true;
                found++;
            }

            return found;
        }
    }

    private void End(DirtyTracking tracking)
    {
        lock (_scans)
        {
            if (tracking == _tracking)
                _tracking = null;
        }
    }

    public void StopDirtyTracking()
    {
        lock (_scans)
            _tracking = null;
    }

    public void Discard(PageRun run)
    {
        RequireRun(run);
        for (var part = FirstPart(run); part.Count > 0; part = NextPart(run, part))
        {
            lock (StripeOf(part.First))
            {
                RequireHere();
                for (long page = part.First; page < part.End; page++)
                    _present.AtomicClear(page);
                GuestBytes.Release(AddressOf(part.First), (long)part.Count * PageSize);
            }
        }
    }

    public IMissingPageTrap TrapMissing()
    {
        RequireHere();
        var trap = new SyntheticTrap(this);
        if (Interlocked.CompareExchange(ref _trap, trap, null) is not null)
            throw new FabricException(ErrorCodes.Conflict, "Missing pages of this machine are trapped already.", "Dispose of the trap that is there first.");
        return trap;
    }

    /// <summary>Ends every wait; then unmaps, once nobody is inside an install. The guest's thread must have ended.</summary>
    public void Dispose()
    {
        lock (_arrival)
        {
            if (_gone)
                return;
            _gone = true;
            Monitor.PulseAll(_arrival);
        }

        _trap?.Interrupt();
        foreach (var stripe in _stripes)
        {
            // Everyone who is inside saw the memory alive; everyone who comes later sees that it is gone.
            lock (stripe)
            {
            }
        }

        _bytes.Dispose();
    }

    /// <summary>The guest's access to one page. The guest's thread only; never blocks.</summary>
    internal Reach TryReach(long page, bool write, out nint address)
    {
        _hasRun = true;
        address = AddressOf(page);
        if (_present[page])
        {
            // The bytes are read after the bit, on every processor.
            Volatile.ReadBarrier();
            return Reach.Present;
        }

        lock (StripeOf(page))
        {
            if (IsThere(page))
                return Reach.Present;
            if (_trap is { } trap)
            {
                trap.Raise(page);
                return Reach.Missing;
            }

            if (!write)
                return Reach.Zeros;
            _present.AtomicSet(page);
            return Reach.Present;
        }
    }

    /// <summary>After the bytes were written. The guest's thread only.</summary>
    internal void MarkDirty(long page) => _dirty.AtomicSet(page);

    /// <summary>The guest waits until the page is there, the trap is gone, or it is told to look up. At most this long.</summary>
    internal void WaitForArrival(long page, Func<bool> interrupted, TimeSpan most)
    {
        lock (_arrival)
        {
            long begun = TimeProvider.System.GetTimestamp();
            while (!_gone && !_present[page] && _trap is not null && !interrupted())
            {
                var left = most - TimeProvider.System.GetElapsedTime(begun);
                if (left <= TimeSpan.Zero || !Monitor.Wait(_arrival, left))
                    return;
            }
        }
    }

    /// <summary>Makes a waiting guest look up. Any thread.</summary>
    internal void WakeGuest()
    {
        lock (_arrival)
            Monitor.PulseAll(_arrival);
    }

    internal InstallOutcome Install(PageRun run, nint source)
    {
        RequireRun(run);
        bool all = true;
        for (var part = FirstPart(run); part.Count > 0; part = NextPart(run, part))
        {
            lock (StripeOf(part.First))
            {
                if (_gone)
                    return InstallOutcome.MachineGone;
                for (long page = part.First; page < part.End; page++)
                {
                    if (IsThere(page))
                    {
                        all = false;
                        continue;
                    }

                    // Source 0 stands for zeros, which the hole holds already.
                    if (source != 0)
                        GuestBytes.Copy(source + (nint)((page - run.First) * PageSize), AddressOf(page), PageSize);
                    _present.AtomicSet(page);
                }
            }
        }

        WakeGuest();
        return all ? InstallOutcome.Installed : InstallOutcome.SomeAlreadyPresent;
    }

    internal void Disarm(SyntheticTrap trap)
    {
        Interlocked.CompareExchange(ref _trap, null, trap);
        WakeGuest();
    }

    /// <summary>For an observer, with the guest standing.</summary>
    internal nint AddressOf(long page) => _bytes.Address + (nint)(page * PageSize);

    private void FindDirectWrites()
    {
        if (!_directWrites)
            return;
        bool last = _hasRun;
        for (long page = _present.NextClear(0); page >= 0; page = _present.NextClear(page + 1))
        {
            lock (StripeOf(page))
            {
                RequireHere();
                IsThere(page);
            }
        }

        // Once the guest has run nobody writes past it any more: this look was the last that was needed.
        if (last)
            _directWrites = false;
    }

    /// <summary>Under the stripe's lock: the bit, and where an agent may have written past it, the bytes, which then set the bit.</summary>
    private bool IsThere(long page)
    {
        if (_present[page])
            return true;
        if (!_directWrites || GuestBytes.IsZero(AddressOf(page), PageSize))
            return false;
        _present.AtomicSet(page);
        return true;
    }

    private Lock StripeOf(long page) => _stripes[(page >> StripeShift) & (Stripes - 1)];

    private static PageRun FirstPart(PageRun run) => PartFrom(run.First, run.End);

    private static PageRun NextPart(PageRun run, PageRun part) => PartFrom(part.End, run.End);

    /// <summary>From a page to the end of the run or of the page's stripe, whichever is first.</summary>
    private static PageRun PartFrom(long first, long end)
    {
        long stripeEnd = ((first >> StripeShift) + 1) << StripeShift;
        return new PageRun(first, (int)(Math.Min(end, stripeEnd) - first));
    }

    private void RequireRun(PageRun run)
    {
        if (run.First < 0 || run.Count < 0 || run.End > PageCount)
            throw new ArgumentOutOfRangeException(nameof(run), run, $"The machine has {PageCount} pages.");
    }

    private void RequireHere()
    {
        if (_gone)
            throw new FabricException(ErrorCodes.MachineFailed, "The machine is gone.");
    }
}
