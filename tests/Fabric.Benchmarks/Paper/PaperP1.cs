using System.Globalization;
using System.Text.Json;
using Fabric.Benchmarks.Compare;
using Fabric.Benchmarks.Lab;
using Fabric.Core;

namespace Fabric.Benchmarks.Paper;

/// <summary>
/// <c>fabric-bench paper-p1</c>: the tables of "Post-copy live migration of virtual machines" (Hines, Deshpande, Gopalan, OSR'09) on real guests, Fabric's figures beside the paper's: network faults by working
/// set and by page order; time, downtime and pages with and without self-ballooning.
/// </summary>
public static class PaperP1
{
    public const string Usage = """
        fabric-bench paper-p1 [--tables sequential,quicksort,moves] [--runs 3] [--link 1gbit] [--sets 8,16,32,64,128,256] [--accel tcg|kvm]
                              [--kernel FILE --initrd FILE] [--out DIR]
          Moves guests between two network namespaces (root) on a link of that rate. Writes paper-p1.md, paper-p1.json and an SVG per chart to DIR (artifacts/bench). All of it takes a quarter of an hour.
        """;

    private static readonly string[] AllTables = ["sequential", "quicksort", "moves"];

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> options, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(talk);
        int runs = BenchOptions.Number(options, "runs", 3, 1, 100);
        int[] sets = [.. options.GetValueOrDefault("sets", "8,16,32,64,128,256").Split(',').Select(Mebibytes)];
        string[] tables = options.GetValueOrDefault("tables", string.Join(',', AllTables)).Split(',');
        if (tables.Except(AllTables).FirstOrDefault() is { } unknown)
            throw new FabricException(ErrorCodes.InvalidArgument, $"There is no table '{Label.Shorten(unknown)}'.", $"Tables: {string.Join(", ", AllTables)}.");
        var link = MoveLink.Parse(options.GetValueOrDefault("link", "1gbit"));
        if (LinkLab.WhyNot is { } lacking)
            throw new FabricException(ErrorCodes.Unsupported, $"There can be no laboratory here: {lacking}.");
        var guest = Guest(options);
        string accelerator = options.GetValueOrDefault("accel", "tcg");
        string command = string.Create(CultureInfo.InvariantCulture, $"fabric-bench paper-p1 --runs {runs} --link {link.Name} --sets {string.Join(',', sets)} --accel {accelerator}");
        var report = new PaperReport(BenchReport.Machine(accelerator), link.Name, runs, command, [], [], []);
        var lab = await LabCluster.StartAsync(hosts: 2, link.Shape, TimeProvider.System, cancellation, PaperOrders.Environment);
        try
        {
            await lab.Cluster.WaitUntilReadyAsync(cancellation);
            await MeasureAsync(lab, guest, tables, sets, report, talk, cancellation);
        }
        finally
        {
            await lab.DisposeAsync();

            // What was measured is kept, also when the rest failed.
            await BenchReport.WriteAsync(options, "paper-p1", JsonSerializer.Serialize(report, BenchReport.Json), report.ToMarkdown(), talk);
            foreach (var (name, svg) in report.Charts())
                await File.WriteAllTextAsync(Path.Combine(BenchReport.Directory(options), name), svg, CancellationToken.None);
        }

        foreach (string left in lab.Left)
            await talk.WriteLineAsync($"left: {left}");
        return lab.Left.Count == 0 ? 0 : 1;
    }

    private static async Task MeasureAsync(LabCluster lab, VmSpec guest, string[] tables, int[] sets, PaperReport report, TextWriter talk, CancellationToken cancellation)
    {
        var faults = new FaultTable(lab.Cluster, lab.Client, talk.WriteLine);
        if (tables.Contains("sequential"))
        {
            foreach (int set in sets)
                report.Sequential.AddRange(await faults.MeasureAsync(Sized(guest, $"sequential-{set}", "oracle", set, 512), set, PaperOrders.Sequential, report.Runs, cancellation));
        }

        if (tables.Contains("quicksort"))
            report.Quicksort.AddRange(await faults.MeasureAsync(Sized(guest, "quicksort", "quicksort", 512, 1024), 512, PaperOrders.Quicksort, report.Runs, cancellation));
        if (!tables.Contains("moves"))
            return;
        var moves = new MoveTable(lab.Cluster, lab.Client, talk.WriteLine);
        foreach (var (workload, words, mebibytes, afresh) in new[] { ("read-heavy", "", 256, false), ("write-heavy", " fabric.rate=10000", 256, false), ("freed", " fabric.rate=2000 fabric.free-mb=300 fabric.keep=64", 16, true) })
        {
            var spec = Sized(guest, workload, workload, mebibytes, 512);
            report.Moves.AddRange(await moves.MeasureAsync(workload, spec with { Append = spec.Append + words }, afresh, report.Runs, cancellation));
        }
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
