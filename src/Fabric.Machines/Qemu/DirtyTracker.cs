// Which pages a guest has written, of memory that is mostly not there.
//
//   chunk (2 MiB)   nothing exists in its file     something exists, or has existed since Start
//   ─────────────   ───────────────────────────    ────────────────────────────────────────────
//   armed           no                             yes: each page is write-protected, or a marker stands for it
//   a write         makes the page exist           is seen by PAGEMAP_SCAN
//   found by        SEEK_DATA                      the scan
//
// A scan over memory that does not exist arms it too, by a marker for each page: a guest of 4 GiB of which 300 MiB exist then costs more at each scan than one of which all exists (2.6 ms against
// 1.6, and 15 ms to arm), and the guest stands for two of them. So only chunks are armed in which something exists, and of the others the file is asked, which is one call for each gap.
// A page that is read for the first time in an unarmed chunk exists as well, and is reported: it is new, whoever made it.
// A page that was written and is then unmapped by the kernel (swapped out) stays written: what has neither protection nor marker counts so.
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>Records writes to a file that a process has mapped and that is registered for asynchronous write protection. One thread at a time.</summary>
/// <param name="scan">Of the process, over the whole file.</param>
/// <param name="file">In tmpfs; holes are where nothing was ever written or what was given back.</param>
/// <param name="mapping">Where this process has mapped the file; nothing is touched.</param>
internal sealed class DirtyTracker(PagemapScan scan, SparseFile file, nint mapping)
{
    private const int ChunkPages = 512; // what one page of the page table describes

    private readonly long _pageCount = file.Length / VmSpec.PageSize;
    private readonly PageBitmap _armed = new(((file.Length / VmSpec.PageSize) + ChunkPages - 1) / ChunkPages); // a bit for each chunk

    /// <summary>From now on writes are recorded; all that were before are forgotten. Right after the registration, or at any time later.</summary>
    public void Start()
    {
        _armed.Clear();
        ArmWhatExists(null);
    }

    /// <summary>
    /// As <see cref="Start()"/>, and sets exactly the bits of the pages that exist, chunk by chunk: each is armed and then looked at, so what begins to exist later is found by a scan.
    /// </summary>
    /// <param name="present">What existed.</param>
    /// <param name="reached">Hears how far this has come: a chunk's end.</param>
    public void Start(PageBitmap present, Action<long> reached)
    {
        present.Clear();
        _armed.Clear();
        ArmWhatExists(present, reached);
        reached(_pageCount);
    }

    /// <summary>Adds the pages written since the last scan to <paramref name="dirty"/> and arms them again, each in one step. Returns how many were found.</summary>
    /// <param name="dirty">What was found is added.</param>
    /// <param name="asked">Null: all. Otherwise chunks that are armed and of which nothing is asked are left alone: their writes are found by a later scan.</param>
    public long Scan(PageBitmap dirty, PageBitmap? asked = null)
    {
        var chunks = _armed;
        if (asked is not null)
        {
            chunks = new PageBitmap(_armed.Length);
            for (long page = asked.NextSet(0); page >= 0; page = asked.NextSet((page / ChunkPages + 1) * ChunkPages))
                chunks[page / ChunkPages] = true;
            chunks.And(_armed);
        }

        long pages = 0;
        for (long chunk = 0; chunks.TryNextRun(chunk, int.MaxValue, out PageRun run); chunk = run.End)
            pages += scan.ScanAndProtect(dirty, run.First * ChunkPages, Math.Min(run.End * ChunkPages, _pageCount));
        return pages + ArmWhatExists(dirty);
    }

    // What is written between the arming of a chunk and the look at what exists in it is found by both, here and by the next scan.
    private long ArmWhatExists(PageBitmap? fresh, Action<long>? reached = null)
    {
        long pages = 0;
        for (long gap = _armed.NextClear(0); gap >= 0;)
        {
            long page = file.NextPresent(gap * ChunkPages);
            if (page < 0)
                break;
            long chunk = page / ChunkPages;
            gap = _armed.NextClear(chunk + 1);
            if (_armed[chunk])
                continue;
            long first = chunk * ChunkPages;
            long end = Math.Min(first + ChunkPages, _pageCount);
            scan.ScanAndProtect(null, first, end);
            _armed[chunk] = true;
            if (fresh is not null)
                pages += file.AddPresence(fresh, first, end, mapping);
            reached?.Invoke(end);
        }

        return pages;
    }
}
