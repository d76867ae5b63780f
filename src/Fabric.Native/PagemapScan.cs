using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// Asks the kernel which pages of a process were written, through <c>PAGEMAP_SCAN</c> on <c>/proc/PID/pagemap</c> (Linux 6.7). The range must
/// be registered with a userfaultfd in <see cref="UserFaultModes.WriteProtect"/> mode with <see cref="UserFaultFeatures.WriteProtectAsync"/>.
/// A page is "written" when it is not write-protected; so the first scan after registration reports all pages and arms them.
/// One thread at a time. Nothing is allocated per scan: the vector of regions is native memory that lives as long as this object.
/// </summary>
public sealed class PagemapScan : IDisposable
{
    // 24 bytes a region: 384 KiB. A scan that finds more regions goes on where it stopped.
    private const int RegionCapacity = 16384;

    private readonly SafeFileHandle _pagemap;
    private readonly MappedMemory _regions;
    private readonly ulong _start;
    private readonly ulong _end;

    /// <param name="processId">The process; needs the right to trace it.</param>
    /// <param name="start">Address in that process of page 0.</param>
    /// <param name="length">Bytes: whole pages.</param>
    public PagemapScan(int processId, ulong start, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        _start = start;
        _end = start + (ulong)length;
        _pagemap = LinuxCalls.OpenFile($"/proc/{processId}/pagemap", LinuxCalls.OpenReadOnly);
        try
        {
            _regions = MappedMemory.Anonymous(RegionCapacity * (long)Unsafe.SizeOf<Layout.Region>());
        }
        catch
        {
            _pagemap.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Adds the written pages to <paramref name="written"/> (null throws them away), protecting each again in the same step, so that no write
    /// falls between. Only from page <paramref name="first"/> on and before <paramref name="end"/>. Returns how many pages were reported.
    /// </summary>
    public long ScanAndProtect(PageBitmap? written, long first, long end)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)end * VmSpec.PageSize, _end - _start);
        return Scan(Layout.ProtectMatching | Layout.CheckAsync, Layout.PageIsWritten, written, _start + ((ulong)first * VmSpec.PageSize), _start + ((ulong)end * VmSpec.PageSize));
    }

    /// <summary>Counts the written pages; changes nothing.</summary>
    public long Peek() => Scan(0, Layout.PageIsWritten, null, _start, _end);

    /// <summary>Adds the pages that are in the process's page table to <paramref name="present"/>; changes nothing. Needs no registration. Returns how many there are.</summary>
    public long FindPresent(PageBitmap present) => Scan(0, Layout.PageIsPresent, present, _start, _end);

    public void Dispose()
    {
        _pagemap.Dispose();
        _regions.Dispose();
    }

    private unsafe long Scan(ulong flags, ulong category, PageBitmap? found, ulong start, ulong end)
    {
        long pages = 0;
        var vector = (Layout.Region*)_regions.Address;
        ulong position = start;
        while (position < end)
        {
            var argument = new Layout.Argument
            {
                Size = (ulong)sizeof(Layout.Argument),
                Flags = flags,
                Start = position,
                End = end,
                Vector = (ulong)vector,
                VectorLength = RegionCapacity,
                CategoryMask = category,
                ReturnMask = category,
            };

            // SAFETY: the structure is on this stack; the kernel writes at most VectorLength regions into the mapping, which has that size.
            int count = LinuxCalls.Ioctl(_pagemap, Layout.ScanRequest, &argument);
            if (count < 0)
            {
                if (Marshal.GetLastPInvokeError() == Errno.Interrupted)
                    continue;
                throw NativeError.Last("PAGEMAP_SCAN");
            }

            for (int i = 0; i < count; i++)
                pages += Report(vector[i], found);
            if (argument.WalkEnd <= position)
                throw new FabricException(ErrorCodes.Native, $"PAGEMAP_SCAN stopped at 0x{argument.WalkEnd:x} and made no progress.");
            position = argument.WalkEnd;
        }

        return pages;
    }

    private long Report(Layout.Region region, PageBitmap? found)
    {
        long first = (long)(region.Start - _start) / VmSpec.PageSize;
        long count = (long)(region.End - region.Start) / VmSpec.PageSize;
        for (long at = 0; found is not null && at < count;)
        {
            int piece = (int)Math.Min(count - at, int.MaxValue);
            found.SetRun(new PageRun(first + at, piece));
            at += piece;
        }

        return count;
    }

    /// <summary>Structures and numbers of linux/fs.h, part "pagemap"; checked by unit tests.</summary>
    internal static class Layout
    {
        internal const ulong ProtectMatching = 1;
        internal const ulong CheckAsync = 2;
        internal const ulong PageIsWritten = 2;
        internal const ulong PageIsPresent = 8;

        internal static readonly uint ScanRequest = IoctlNumber.ReadWrite<Argument>((byte)'f', 16);

        [StructLayout(LayoutKind.Sequential)]
        internal struct Argument
        {
            internal ulong Size;
            internal ulong Flags;
            internal ulong Start;
            internal ulong End;

            /// <summary>Out: where the walk stopped.</summary>
            internal ulong WalkEnd;
            internal ulong Vector;
            internal ulong VectorLength;
            internal ulong MaxPages;
            internal ulong CategoryInverted;
            internal ulong CategoryMask;
            internal ulong CategoryAnyOf;
            internal ulong ReturnMask;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct Region
        {
            internal ulong Start;
            internal ulong End;
            internal ulong Categories;
        }
    }
}
