// fabric-bench data-plane [MiB [pages per frame [socket buffer]]]: the data plane alone, over loopback, both ends in this process, memory in files on tmpfs as with a real machine.
// Measured: a push of all of memory into fresh and into used memory, a stopped copy of 64 MiB with device state (what would be downtime), and the bytes that
// the garbage collector had to give out meanwhile; once more over a wire that is capped, so that pages are packed. Exit code 1 if a round allocates more than a small constant: nothing may be allocated per page.
using System.Diagnostics;
using System.Globalization;
using System.Net;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer;
using Fabric.Transfer.Incoming;
using Fabric.Transfer.Outgoing;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Benchmarks;

internal static class DataPlane
{
    // Tasks, timers and closures of one round; 64 Ki pages must not show in it.
    private const long AllowedPerRound = 64 * 1024;
    private const long FinalBytes = 64 * ByteSize.Mebi;

    // Bytes a second: slow enough for packing to pay on any machine.
    private const long SlowWire = 100_000_000;

    /// <summary>Null where these are not up to three whole numbers above 0.</summary>
    public static int[]? Sizes(string[] arguments)
    {
        int[] sizes = [.. arguments.Select(static a => int.TryParse(a, NumberStyles.None, CultureInfo.InvariantCulture, out int size) ? size : 0)];
        return sizes.Length <= 3 && sizes.All(static size => size > 0) ? sizes : null;
    }

    public static async Task<int> RunAsync(int[] sizes)
    {
        long bytes = ByteSize.Mebi * (sizes.Length > 0 ? sizes[0] : 256);
        TransferSettings settings = TransferSettings.Default;
        if (sizes.Length > 1)
            settings = settings with { PushFramePages = sizes[1] };
        if (sizes.Length > 2)
            settings = settings with { BulkBufferBytes = sizes[2], OneHostBufferBytes = sizes[2] };
        bool lean = true;
        Console.WriteLine($"{"connections",12}{"packed",8}{"first GB/s",12}{"second GB/s",12}{"later GB/s",12}{"stopped 64 MiB ms",20}{"bytes/round",14}{"bytes/page",12}{"first CPU s/GB",16}{"later CPU s/GB",16}");
        foreach (var (connections, cap) in ((int, long?)[])[(1, null), (2, null), (2, SlowWire)])
        {
            await OnceAsync(bytes, connections, cap, settings);
            List<Figures> runs = [];
            for (int i = 0; i < 5; i++)
                runs.Add(await OnceAsync(bytes, connections, cap, settings));
            long allocated = runs.Min(r => r.AllocatedPerRound);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{connections,12}{Median(runs, r => r.PackedShare),8:P0}{Median(runs, r => r.First),12:0.00}{Median(runs, r => r.Second),12:0.00}{Median(runs, r => r.Again),12:0.00}{Median(runs, r => r.StoppedMs),20:0.0}{allocated,14}{allocated / (bytes / VmSpec.PageSize),12}{Median(runs, r => r.FirstCpu),16:0.00}{Median(runs, r => r.AgainCpu),16:0.00}"));
            lean &= allocated <= AllowedPerRound;
        }

        if (!lean)
            await Console.Error.WriteLineAsync($"A round allocates more than {AllowedPerRound} bytes.");
        return lean ? 0 : 1;
    }

    private static double Median(List<Figures> runs, Func<Figures, double> figure)
    {
        double[] sorted = [.. runs.Select(figure).Order()];
        return sorted[sorted.Length / 2];
    }

    private static async Task<Figures> OnceAsync(long bytes, int connections, long? cap, TransferSettings settings)
    {
        MigrationId migration = new(Guid.NewGuid());
        Ticket ticket = new(new string('5', 64));
        using FileMemory source = new(bytes);
        using FileMemory destination = new(bytes);
        source.FillWithNoise();
        await using DataListener listener = new(new IPEndPoint(IPAddress.Loopback, 0), settings, TimeProvider.System, NullLogger.Instance);
        using PullState pull = PullState.InMemory(migration, destination.PageCount, digests: false);
        await using IncomingTransfer incoming = new(destination, migration, pull, settings, TimeProvider.System, NullLogger.Instance);
        using IDisposable registration = listener.Register(migration, ticket, incoming);
        Task running = incoming.RunAsync(new Handler(), default);
        OutgoingChannels channels = await OutgoingConnector.ConnectAsync(new DataEndpoint("127.0.0.1", listener.Endpoint.Port), migration, ticket, connections, settings, TimeProvider.System, default);
        TransferTerms terms = new(migration, source.PageSize, source.PageCount, connections, VerifyLevel.Frames, Pack: true);
        await using OutgoingTransfer outgoing = new(source, terms, channels, cap is null ? null : new BandwidthCap(cap, TimeProvider.System), settings, TimeProvider.System, NullLogger.Instance);

        TimeSpan cpu = Environment.CpuUsage.TotalTime;
        RoundReport first = await outgoing.PushRoundAsync(default);
        double firstCpu = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds / bytes * 1e9;
        // The second copy of a page maps it at the destination; from the third on, which is what a hot page's last copy is, nothing faults.
        source.MarkDirty(source.PageCount);
        RoundReport second = await outgoing.PushRoundAsync(default);
        source.MarkDirty(source.PageCount);
        // The scan at the end of this round finds nothing; the next one takes what was marked.
        long before = GC.GetTotalAllocatedBytes(precise: true);
        cpu = Environment.CpuUsage.TotalTime;
        RoundReport again = await outgoing.PushRoundAsync(default);
        double againCpu = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds / bytes * 1e9;
        long allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
        if (again.PagesSent != source.PageCount)
            throw new InvalidOperationException($"{again.PagesSent} pages were sent.");

        source.MarkDirty(FinalBytes / VmSpec.PageSize);
        long began = Stopwatch.GetTimestamp();
        await outgoing.FinishStoppedAsync(HandOverKind.Complete, Task.FromResult(new byte[78_000]), default);
        double stopped = Stopwatch.GetElapsedTime(began).TotalMilliseconds;
        await outgoing.PassTokenAsync(new Epoch(2), default);
        await running;
        MigrationStats stats = outgoing.Snapshot();
        return new Figures((double)stats.PagesPacked / stats.PagesSent, bytes / second.Elapsed.TotalSeconds / 1e9, bytes / first.Elapsed.TotalSeconds / 1e9, bytes / again.Elapsed.TotalSeconds / 1e9, stopped, allocated, firstCpu, againCpu);
    }

    private sealed record Figures(double PackedShare, double Second, double First, double Again, double StoppedMs, long AllocatedPerRound, double FirstCpu, double AgainCpu);

    private sealed class Handler : IIncomingHandler
    {
        public Task LoadDeviceStateAsync(ReadOnlyMemory<byte> state, HandOverKind kind, CancellationToken cancellation) => Task.CompletedTask;

        public Task<TimeSpan> AcceptTokenAsync(Epoch epoch, CancellationToken cancellation) => Task.FromResult(TimeSpan.Zero);

        public Task CompletePullAsync(bool? verified, CancellationToken cancellation) => Task.CompletedTask;
    }

    /// <summary>Pages in a file on tmpfs, all present; dirty pages are what the benchmark says.</summary>
    private sealed class FileMemory : IGuestMemory, IDisposable
    {
        private readonly SafeFileHandle _file;
        private readonly MappedMemory _memory;
        private long _dirty;

        public FileMemory(long bytes)
        {
            string path = $"/dev/shm/fabric-bench-{Guid.NewGuid():N}";
            _file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
            File.Delete(path);
            RandomAccess.SetLength(_file, bytes);
            _memory = MappedMemory.MapFile(_file, bytes);
            PageCount = bytes / PageSize;
        }

        public int PageSize => VmSpec.PageSize;

        public long PageCount { get; }

        public nint Address => _memory.Address;

        public IDisposable Pin() => _memory.Pin();

        public bool TryRead(PageRun run, nint target)
        {
            PageBytes.ReadFile(_file, run.First * PageSize, target, (long)run.Count * PageSize);
            return true;
        }

        public void FillWithNoise()
        {
            byte[] noise = GC.AllocateUninitializedArray<byte>(PageSize, pinned: true);
            Random random = new(1);
            for (long page = 0; page < PageCount; page++)
            {
                random.NextBytes(noise);
                PageBytes.Copy(System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(noise, 0), Address + (nint)(page * PageSize), PageSize);
            }
        }

        public void MarkDirty(long pages) => _dirty = pages;

        public void ReadPresence(PageBitmap present) => present.SetAll();

        public IDirtyTracking StartDirtyTracking()
        {
            _dirty = 0;
            return new DirtyTracking((_, dirty, _) => Scan(dirty), static _ => { });
        }

        private long Scan(PageBitmap dirty)
        {
            long count = _dirty;
            for (long page = 0; page < count; page += 1 << 20)
                dirty.SetRun(new PageRun(page, (int)Math.Min(count - page, 1 << 20)));
            _dirty = 0;
            return count;
        }

        public void StopDirtyTracking() => _dirty = 0;

        public bool TryFill(PageRun run, nint source)
        {
            PageBytes.WriteFile(_file, run.First * PageSize, source, (long)run.Count * PageSize);
            return true;
        }

        public void Discard(PageRun run) => throw new NotSupportedException();

        public IMissingPageTrap TrapMissing() => throw new NotSupportedException();

        public void Dispose()
        {
            _memory.Dispose();
            _file.Dispose();
        }
    }
}
