using System.Globalization;
using System.Text;
using Fabric.Benchmarks.Compare;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Benchmarks.Soak;

/// <summary><c>fabric-bench soak</c>: many moves of one guest under load, and what they leave behind. Exit 1 when a check fails.</summary>
public static class SoakCommand
{
    public const string Usage = """
        fabric-bench soak [--moves 100] [--mode alternating|pre-copy|post-copy|hybrid|auto] [--memory 256M] [--workload stress-ng]
                          [--mb 32] [--rate 4000] [--accel tcg|kvm] [--kernel FILE --initrd FILE] [--out DIR]
          Moves a guest back and forth between two hosts with --verify full. Writes soak.md and soak.json to DIR (artifacts/bench).
          The kernel and the initrd come from guests/build.sh (FABRIC_GUEST_KERNEL, FABRIC_GUEST_INITRD_STRESS) where they are not given.
          --mb: MiB of the workload's memory, and of stress-ng's own; --rate: pages a second that the guest's checker goes over.
        """;

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(talk);
        var options = Options(values);
        var result = await new SoakRun(options, TimeProvider.System, new Random(), talk.WriteLine).RunAsync(cancellation);
        await BenchReport.WriteAsync(values, "soak", result.ToJson(), Markdown(result), talk);
        cancellation.ThrowIfCancellationRequested();
        return result.Ok ? 0 : 1;
    }

    private static SoakOptions Options(IReadOnlyDictionary<string, string> values)
    {
        string workload = values.GetValueOrDefault("workload", "stress-ng");
        int mebibytes = BenchOptions.Number(values, "mb", 32, 1, 1 << 20);
        string append = string.Create(
            CultureInfo.InvariantCulture,
            $"fabric.workload={workload} fabric.mb={mebibytes} fabric.stress-mb={mebibytes} fabric.rate={BenchOptions.Number(values, "rate", 4000, 0, 1 << 30)}");
        var guest = new VmSpec
        {
            Name = VmName.Parse("soak"),
            Machine = MachineKind.Qemu,
            Accelerator = BenchOptions.AcceleratorOf(values),
            MemoryBytes = ByteSize.Parse(values.GetValueOrDefault("memory", "256M"), "--memory"),
            Kernel = BenchOptions.Existing(values, "kernel", "FABRIC_GUEST_KERNEL"),
            Initrd = BenchOptions.Existing(values, "initrd", workload == "stress-ng" ? "FABRIC_GUEST_INITRD_STRESS" : "FABRIC_GUEST_INITRD"),
            Append = append,
        };
        return guest.Validate() is { } wrong
            ? throw new FabricException(wrong)
            : new SoakOptions
            {
                Moves = BenchOptions.Number(values, "moves", 100, 1, 100_000),
                Modes = Modes(values.GetValueOrDefault("mode", "alternating")),
                Guest = guest,
                Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable),
            };
    }

    private static IReadOnlyList<MigrationMode> Modes(string text) => text switch
    {
        "alternating" => [MigrationMode.PreCopy, MigrationMode.PostCopy, MigrationMode.Hybrid, MigrationMode.Auto],
        "pre-copy" => [MigrationMode.PreCopy],
        "post-copy" => [MigrationMode.PostCopy],
        "hybrid" => [MigrationMode.Hybrid],
        "auto" => [MigrationMode.Auto],
        _ => throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no value for --mode.", "Use alternating, pre-copy, post-copy, hybrid or auto."),
    };

    private static string Markdown(SoakResult result)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# One guest moved {result.Samples.Count} times\n\nMachine: {result.Machine}\n\nGuest: `{result.Guest}`\n\n");
        text.Append(CultureInfo.InvariantCulture, $"{result.Samples.Count} of {result.MovesAsked} moves in {result.Seconds:0} s. Times in ms: median (least – most).\n\n");
        text.Append("| mode | moves | total | downtime | MiB on the wire | faults | verified |\n|---|---|---|---|---|---|---|\n");
        foreach (var mode in result.Samples.GroupBy(s => s.Report.Mode).OrderBy(g => g.Key))
        {
            var reports = mode.Select(s => s.Report).ToList();
            text.Append(CultureInfo.InvariantCulture, $"| {mode.Key} | {reports.Count} | {Show(reports.Select(r => r.TotalMs))} | {Show(reports.Select(r => r.DowntimeMs))} ");
            text.Append(CultureInfo.InvariantCulture, $"| {Show(reports.Select(r => (double?)r.Memory.WireBytes / ByteSize.Mebi))} | {Show(reports.Select(r => (double?)r.Faults.Network))} ");
            text.Append(CultureInfo.InvariantCulture, $"| {reports.Count(r => r.Verified == true)} |\n");
        }

        text.Append("\n| check | | found |\n|---|---|---|\n");
        foreach (var check in result.Checks)
            text.Append(CultureInfo.InvariantCulture, $"| {check.Name} | {(check.Ok ? "ok" : "**FAILED**")} | {check.Detail} |\n");
        if (result.Samples.Count < LeakCheck.LeastMoves)
            text.Append(CultureInfo.InvariantCulture, $"\nWhat the daemons keep is judged from {LeakCheck.LeastMoves} moves on.\n");
        return text.ToString();
    }

    private static string Show(IEnumerable<double?> values) => Statistics.Of(values.OfType<double>()) is { } known
        ? string.Create(CultureInfo.InvariantCulture, $"{known.Median:0.0} ({known.Least:0.0} – {known.Most:0.0})")
        : "–";
}
