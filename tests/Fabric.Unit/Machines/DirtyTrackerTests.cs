using Fabric.Core;
using Fabric.Machines.Qemu;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Machines;

/// <summary>
/// The record of writes on memory of this process, most of which does not exist: asynchronous write protection never makes a thread wait, so here the test itself may be the guest. What is found is
/// compared with what was written, page by page; that holes are not armed, with what the kernel still counts as written.
/// </summary>
public sealed class DirtyTrackerTests : IDisposable
{
    private const int ChunkPages = 512;
    private const long Pages = (32 * ChunkPages) + 3; // the last chunk is a part of one

    private readonly string _path = $"/dev/shm/fabric-dirty-{Guid.NewGuid():n}";
    private readonly SparseFile _file;
    private readonly MappedMemory _memory;
    private readonly PagemapScan _scan;
    private readonly DirtyTracker _tracker;

    public DirtyTrackerTests()
    {
        _file = SparseFile.Create(_path, Pages * VmSpec.PageSize);
        _memory = MappedMemory.MapFile(_file.Handle, _file.Length);
        _scan = new PagemapScan(Environment.ProcessId, (ulong)_memory.Address, _file.Length);
        _tracker = new DirtyTracker(_scan, _file, _memory.Address);
    }

    public void Dispose()
    {
        _scan.Dispose();
        _memory.Dispose();
        _file.Dispose();
        File.Delete(_path);
    }

    [SkippableFact]
    public void Writes_are_found_once_wherever_they_are()
    {
        using var fault = Register();
        Write(0, 9, 5000);
        _tracker.Start();
        Assert.Empty(Found());

        Write(3);
        Assert.Equal([3], Found());
        Write(100); // a hole of a chunk that is armed
        Assert.Equal([100], Found());
        Write(700, 1023, Pages - 1); // of chunks of which nothing existed
        Assert.Equal([700, 1023, Pages - 1], Found());
        Write(701);
        Assert.Equal([701], Found());
        Assert.Empty(Found());
    }

    [SkippableFact]
    public void What_was_given_back_and_written_anew_is_found()
    {
        using var fault = Register();
        Write(3, 4, 700, 701);
        _tracker.Start();
        _file.PunchHole(3 * VmSpec.PageSize, VmSpec.PageSize);
        _file.PunchHole(ChunkPages * VmSpec.PageSize, ChunkPages * VmSpec.PageSize);
        Assert.Empty(Found());
        Write(3, 701, 5000);
        _file.PunchHole(5000 * VmSpec.PageSize, VmSpec.PageSize);
        Assert.Equal([3, 701], Found());
        Write(5000);
        Assert.Equal([5000], Found());
    }

    /// <summary>As when the host swaps it out.</summary>
    [SkippableFact]
    public void What_the_kernel_takes_out_of_the_page_table_stays_written_or_unwritten()
    {
        using var fault = Register();
        Write(3, 4, 700);
        _tracker.Start();
        Write(4, 2000);
        foreach (long page in new[] { 3, 4, 700, 2000 })
            GuestBytes.Release(At(page), VmSpec.PageSize);
        Assert.Equal([4, 2000], Found());
        Write(3);
        Assert.Equal([3], Found());
    }

    [SkippableFact]
    public void What_nobody_asks_for_is_left_to_a_later_scan()
    {
        using var fault = Register();
        Write(0, 600, 5000, Pages - 1);
        _tracker.Start();
        Write(3, 601, 5001, 6000, Pages - 2);
        Assert.Equal([601, 6000, Pages - 2], Found(asked: [700, Pages - 1])); // of their chunks; and 6000, which is in one of which nothing existed
        Write(4, 601);
        Assert.Equal([3, 4, 601, 5001], Found());
        Assert.Empty(Found());
    }

    /// <summary>Reading makes a page where there was none: nobody else would say that it exists.</summary>
    [SkippableFact]
    public void A_page_that_is_made_by_reading_in_a_chunk_of_holes_is_new()
    {
        using var fault = Register();
        Write(0);
        _tracker.Start();
        Assert.True(PageBytes.IsZero(At(3000), VmSpec.PageSize));
        Assert.Equal([3000], Found());
        Assert.True(PageBytes.IsZero(At(3000), VmSpec.PageSize));
        Assert.Empty(Found());
    }

    /// <summary>A marker for each page of a hole would be gone over by every scan.</summary>
    [SkippableFact]
    public void Only_chunks_are_armed_in_which_something_exists()
    {
        using var fault = Register();
        Write(0, 5000);
        _tracker.Start();
        Assert.Equal(Pages - (2 * ChunkPages), _scan.Peek());
        Write(700, Pages - 1);
        Assert.Equal([700, Pages - 1], Found());
        Assert.Equal(Pages - (3 * ChunkPages) - 3, _scan.Peek());
    }

    [SkippableFact]
    public void What_is_found_is_what_was_written()
    {
        using var fault = Register();
        var random = new Random(1);
        for (int round = 0; round < 40; round++)
        {
            if (round % 10 == 0)
            {
                // In every tenth round memory is empty again, and tracked anew.
                _file.PunchHole(0, _file.Length);
                Write([.. Some(random, 20)]);
                _tracker.Start();
            }

            long[] written = [.. Some(random, random.Next(300))];
            Write(written);
            Assert.Equal(written, Found());
        }
    }

    [SkippableTheory]
    [InlineData(1, 0)]
    [InlineData(2, 5)]
    [InlineData(3, 400)]
    [InlineData(4, 20_000)]
    public void What_exists_is_found_chunk_by_chunk_while_it_is_armed(int seed, int pages)
    {
        using var fault = Register();
        long[] written = [.. Some(new Random(seed), pages)];
        Write(written);
        PageBitmap all = new(Pages);
        foreach (long page in written)
            all[page] = true;
        PageBitmap present = new(Pages);
        present.SetAll();
        long before = 0;
        _tracker.Start(present, end =>
        {
            Assert.InRange(end, before, Pages);
            Assert.True(end % 64 == 0 || end == Pages);
            for (long page = before; page < end; page++)
                Assert.Equal(all[page], present[page]);
            before = end;
        });
        Assert.Equal(Pages, before);
        present.SetAll();
        _file.ReadPresence(present);
        Assert.Equal(all.Words, present.Words);
        Assert.Empty(Found());
        Write(3, 700, Pages - 1);
        Assert.Equal([3, 700, Pages - 1], Found());
    }

    private static IEnumerable<long> Some(Random random, int pages) => Enumerable.Range(0, pages).Select(_ => random.NextInt64(Pages)).Distinct().Order();

    private nint At(long page) => _memory.Address + (nint)(page * VmSpec.PageSize);

    private void Write(params long[] pages)
    {
        foreach (long page in pages)
            PageBytes.Fill(At(page), VmSpec.PageSize, (byte)(page + 1));
    }

    private long[] Found(params long[] asked)
    {
        var dirty = new PageBitmap(Pages);
        var of = new PageBitmap(Pages);
        foreach (long page in asked)
            of[page] = true;
        long count = _tracker.Scan(dirty, asked.Length > 0 ? of : null);
        Assert.Equal(count, dirty.CountSet());
        return [.. Set(dirty)];

        static IEnumerable<long> Set(PageBitmap pages)
        {
            for (long page = pages.NextSet(0); page >= 0; page = pages.NextSet(page + 1))
                yield return page;
        }
    }

    private UserFault Register()
    {
        var fault = Preflight.OpenUserFault(out string how);
        Skip.If(fault is null, $"userfaultfd is not permitted ({how}): run as root, or set vm.unprivileged_userfaultfd=1");
        Skip.IfNot(Preflight.Negotiate(fault!), "this kernel's userfaultfd is too old");
        fault!.Register((ulong)_memory.Address, (ulong)_file.Length, UserFaultModes.WriteProtect);
        return fault;
    }
}
