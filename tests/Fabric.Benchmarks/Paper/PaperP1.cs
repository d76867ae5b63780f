using System.Globalization;
using System.Text.Json;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Paper;

/// <summary>
/// <c>fabric-bench paper-p1</c>: the tables of "Post-copy live migration of virtual machines" (Hines, Deshpande, Gopalan, OSR'09) on real guests, Fabric's figures beside the paper's. Network faults by working
/// set, and by page order.
/// </summary>
public static class PaperP1
{
    public const string Usage = """
        fabric-bench paper-p1 [--tables sequential,quicksort] [--runs 3] [--rate 112M] [--sets 8,16,32,64,128,256] [--accel tcg|kvm]
                              [--kernel FILE --initrd FILE] [--out DIR]
          Writes paper-p1.md, paper-p1.json and an SVG per table to DIR (artifacts/bench). --rate: bytes a second of the link; 112M is what 1 Gb/s carries.
        """;

    private static readonly PageOrder[] SequentialOrders = [PageOrder.PushOnly, PageOrder.DualMulti];

    private static readonly PageOrder[] QuicksortOrders =
        [PageOrder.PushOnly, PageOrder.Forward, PageOrder.Dual, PageOrder.ForwardMulti, PageOrder.DualMulti, PageOrder.DualLru, PageOrder.DualMultiLru];

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> options, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(talk);
        int runs = BenchOptions.Number(options, "runs", 3, 1, 100);
        long rate = ByteSize.Parse(options.GetValueOrDefault("rate", "112M"), "--rate");
        int[] sets = [.. options.GetValueOrDefault("sets", "8,16,32,64,128,256").Split(',').Select(Mebibytes)];
        string[] tables = options.GetValueOrDefault("tables", "sequential,quicksort").Split(',');
        if (tables.Except(["sequential", "quicksort"]).FirstOrDefault() is { } unknown)
            throw new FabricException(ErrorCodes.InvalidArgument, $"There is no table '{Label.Shorten(unknown)}'.", "Tables: sequential, quicksort.");
        var guest = Guest(options);
        var report = new PaperReport(BenchReport.Machine(options.GetValueOrDefault("accel", "tcg")), rate, runs, [], []);
        string directory = Directory.CreateTempSubdirectory("fpaper-").FullName;
        var cluster = LocalCluster.Create(
            new LocalClusterOptions { Directory = directory, Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable), Hosts = 2, Ephemeral = true }, TimeProvider.System, new Random());
        try
        {
            await cluster.StartAsync(cancellation);
            using var client = new ControlClient(cluster.ApiUrl);
            var measure = new FaultTable(cluster, client, rate, talk.WriteLine);
            if (tables.Contains("sequential"))
            {
                foreach (int set in sets)
                    report.Sequential.AddRange(await measure.MeasureAsync(Sized(guest, $"sequential-{set}", "oracle", set, 512), set, SequentialOrders, runs, cancellation));
            }

            if (tables.Contains("quicksort"))
                report.Quicksort.AddRange(await measure.MeasureAsync(Sized(guest, "quicksort", "quicksort", 512, 1024), 512, QuicksortOrders, runs, cancellation));
        }
        finally
        {
            await cluster.DownAsync(static _ => { }, CancellationToken.None);
        }

        await BenchReport.WriteAsync(options, "paper-p1", JsonSerializer.Serialize(report, BenchReport.Json), report.ToMarkdown(), talk);
        foreach (var (name, svg) in report.Charts())
            await File.WriteAllTextAsync(Path.Combine(BenchReport.Directory(options), name), svg, CancellationToken.None);
        return 0;
    }

    private static VmSpec Guest(IReadOnlyDictionary<string, string> options) => new()
    {
        Name = VmName.Parse("paper"),
        Machine = MachineKind.Qemu,
        Accelerator = BenchOptions.AcceleratorOf(options),
        MemoryBytes = 512 * ByteSize.Mebi,
        Kernel = BenchOptions.Existing(options, "kernel", "FABRIC_GUEST_KERNEL"),
        Initrd = BenchOptions.Existing(options, "initrd", "FABRIC_GUEST_INITRD"),
    };

    private static VmSpec Sized(VmSpec guest, string name, string workload, int mebibytes, int memory) => guest with
    {
        Name = VmName.Parse(name),
        MemoryBytes = memory * ByteSize.Mebi,
        Append = string.Create(CultureInfo.InvariantCulture, $"fabric.workload={workload} fabric.mb={mebibytes}"),
    };

    private static int Mebibytes(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value is >= 1 and <= 400
        ? value
        : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no working set.", "Use MiB from 1 to 400, with commas between them.");
}
