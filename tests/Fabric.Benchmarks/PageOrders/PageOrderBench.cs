using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;

namespace Fabric.Benchmarks.PageOrders;

/// <summary>One order on one map: medians over the runs. Nanoseconds and bytes per page claimed; pages per run of neighbours in a chunk; making the order, in milliseconds.</summary>
public sealed record PageOrderRow(string Map, string Order, long Pages, double NanosecondsPerPage, double BytesPerPage, double PagesPerRun, double BeginMs);

/// <summary>
/// <c>fabric-bench page-order</c>: what choosing a page costs in each order, beside the plain scan that there was before. Runs alternate over the orders. Exit 1 when an
/// order allocates for a page, or does not bring every page.
/// </summary>
public static class PageOrderBench
{
    public const string Usage = """
        fabric-bench page-order [--gib 4] [--runs 5] [--out DIR]
          Time per page of each order of the pull phase, for a VM of so many GiB: dense, sparse (one page of 64), islands (16 pages of 4096), and dense with a fault
          before each chunk. Writes page-order.md and page-order.json to DIR (artifacts/bench).
        """;

    private const string Before = "(before)";
    private const int ChunkPages = 64;
    private const int WarmUps = 30;
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(talk);
        long pages = BenchOptions.Number(values, "gib", 4, 1, 4096) * ByteSize.Gibi / VmSpec.PageSize;
        int runs = BenchOptions.Number(values, "runs", 5, 1, 100);
        string directory = values.GetValueOrDefault("out", Path.Combine("artifacts", "bench"));
        Case[] cases = [new("dense", 1, 1, false), new("sparse", 64, 1, false), new("islands", 4096, 16, false), new("faults", 1, 1, true)];
        var rows = new List<PageOrderRow>();
        // What is called often is compiled again in the background; small maps until that is over.
        for (int warm = 0; warm < WarmUps; warm++)
        {
            foreach (Case map in cases)
            {
                foreach (string order in Orders())
                    PushAll(order, map, ByteSize.Gibi / 8 / VmSpec.PageSize);
            }
        }

        foreach (Case map in cases)
        {
            var figures = Orders().ToDictionary(order => order, _ => new List<Figures>());
            for (int run = 0; run < runs; run++)
            {
                foreach (string order in figures.Keys)
                {
                    cancellation.ThrowIfCancellationRequested();
                    figures[order].Add(PushAll(order, map, pages));
                }
            }

            foreach (var (order, of) in figures)
            {
                var row = new PageOrderRow(map.Name, order, of[0].Pages, Median(of, f => f.Nanoseconds / f.Pages), Median(of, f => (double)f.Bytes / f.Pages), Median(of, f => (double)f.Pages / f.Runs), Median(of, f => f.BeginMs));
                rows.Add(row);
                await talk.WriteLineAsync(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{row.Map,-8} {row.Order,-18} {row.NanosecondsPerPage,7:0.0} ns/page {row.BytesPerPage,6:0.00} bytes/page {row.PagesPerRun,6:0.0} pages/run, made in {row.BeginMs:0.00} ms"));
            }
        }

        Directory.CreateDirectory(directory);
        await File.WriteAllTextAsync(Path.Combine(directory, "page-order.json"), JsonSerializer.Serialize(rows, Json), cancellation);
        await File.WriteAllTextAsync(Path.Combine(directory, "page-order.md"), Markdown(rows, pages, runs), cancellation);
        await talk.WriteLineAsync($"Report: {Path.Combine(directory, "page-order.md")}");
        return rows.TrueForAll(row => row.BytesPerPage == 0) ? 0 : 1;
    }

    private static IEnumerable<string> Orders() => Enum.GetNames<PageOrder>().Where(name => !name.EndsWith("Lru", StringComparison.Ordinal)).Append(nameof(PageOrder.DualMultiLru)).Prepend(Before);

    private static Figures PushAll(string name, Case map, long length)
    {
        PageBitmap remaining = new(length);
        for (long block = 0; block < length; block += map.Every)
            remaining.SetRun(new PageRun(block, (int)Math.Min(map.Run, length - block)));
        long pages = remaining.CountSet();
        Random random = new(1);
        PageBitmap spare = new(length);
        WriteHistory history = new(name == nameof(PageOrder.DualMultiLru) ? length : 0);
        if (name == nameof(PageOrder.DualMultiLru))
        {
            PageBitmap newest = history.Begin();
            for (long page = 0; page < length; page += 3)
                newest[page] = true;
        }

        long[] chunk = new long[ChunkPages];
        long began = Stopwatch.GetTimestamp();
        IPageOrder order = name == Before ? new NextSetOrder(remaining) : new PullPlan(Enum.Parse<PageOrder>(name)).Begin(remaining, spare, null, history);
        double beginMs = Stopwatch.GetElapsedTime(began).TotalMilliseconds;
        long before = GC.GetAllocatedBytesForCurrentThread();
        long came = 0;
        long runs = 0;
        began = Stopwatch.GetTimestamp();
        for (int count; (count = order.Claim(chunk)) > 0; came += count)
        {
            runs++;
            for (int i = 1; i < count; i++)
                runs += chunk[i] == chunk[i - 1] + 1 ? 0 : 1;
            if (!map.Faults)
                continue;
            long page = random.NextInt64(length);
            if (remaining.AtomicClear(page))
            {
                came++;
                order.Faulted(page);
            }
        }

        double nanoseconds = Stopwatch.GetElapsedTime(began).TotalNanoseconds;
        long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        return came == pages
            ? new Figures(pages, nanoseconds, bytes, Math.Max(1, runs), beginMs)
            : throw new FabricException(ErrorCodes.Internal, $"{name} brought {came} of {pages} pages of map '{map.Name}'.");
    }

    private static double Median(List<Figures> of, Func<Figures, double> figure)
    {
        double[] sorted = [.. of.Select(figure).Order()];
        return sorted[sorted.Length / 2];
    }

    private static string Markdown(List<PageOrderRow> rows, long pages, int runs)
    {
        var text = new StringBuilder();
        text.AppendLine("# What choosing the next page costs").AppendLine();
        text.AppendLine(string.Create(CultureInfo.InvariantCulture, $"`fabric-bench page-order --gib {pages * VmSpec.PageSize / ByteSize.Gibi} --runs {runs}`: chunks of {ChunkPages} pages, one thread, medians. {Before}: one cursor and a plain scan.")).AppendLine();
        text.AppendLine("| map | order | pages | ns/page | bytes/page | pages/run | made in ms |").AppendLine("|---|---|---:|---:|---:|---:|---:|");
        foreach (PageOrderRow row in rows)
            text.AppendLine(string.Create(CultureInfo.InvariantCulture, $"| {row.Map} | {row.Order} | {row.Pages} | {row.NanosecondsPerPage:0.0} | {row.BytesPerPage:0.00} | {row.PagesPerRun:0.0} | {row.BeginMs:0.00} |"));
        return text.ToString();
    }

    private sealed record Case(string Name, int Every, int Run, bool Faults);

    private readonly record struct Figures(long Pages, double Nanoseconds, long Bytes, long Runs, double BeginMs);
}
