using System.Globalization;
using System.Text;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Benchmarks.Paper;

/// <summary>What was measured; the paper's own figures stand beside it.</summary>
public sealed record PaperReport(string Machine, long Rate, int Runs, List<FaultRow> Sequential, List<FaultRow> Quicksort)
{
    /// <summary>Working set in MiB → network faults in percent of all faults: with pre-paging, push-only (OSR'09, table of the sequential stress test).</summary>
    private static readonly Dictionary<int, (double PrePaging, double PushOnly)> PaperSequential = new()
    {
        [8] = (2, 15),
        [16] = (4, 13),
        [32] = (4, 13),
        [64] = (3, 10),
        [128] = (3, 9),
        [256] = (3, 10),
    };

    /// <summary>Network faults of the Quicksort test, read off the paper's chart.</summary>
    private static readonly Dictionary<PageOrder, int> PaperQuicksort = new()
    {
        [PageOrder.PushOnly] = 5450,
        [PageOrder.Forward] = 1950,
        [PageOrder.Dual] = 1870,
        [PageOrder.ForwardMulti] = 1650,
        [PageOrder.DualLru] = 1580,
        [PageOrder.DualMultiLru] = 1450,
    };

    public string ToMarkdown()
    {
        var text = new StringBuilder("# Post-copy: how many pages the guest must wait for\n\n");
        text.Append(CultureInfo.InvariantCulture, $"`fabric-bench paper-p1 --runs {Runs} --rate {ByteSize.Format(Rate)}`; {Machine}. Medians, in brackets least – most. ");
        text.Append("Network: pages that the guest touched and that had to be asked for. Minor: pages that were on their way when it touched them, and holes. ");
        text.Append("Stall: how long the guest stood at both, in all. The paper: Hines, Deshpande, Gopalan, OSR'09, on Xen over gigabit Ethernet.\n");
        if (Sequential.Count > 0)
            AppendSequential(text);
        if (Quicksort.Count > 0)
            AppendQuicksort(text);
        return text.ToString();
    }

    public IEnumerable<(string Name, string Svg)> Charts()
    {
        if (Sequential.Count > 0)
        {
            var sets = Sequential.Select(static r => r.Mebibytes).Distinct().ToList();
            yield return ("paper-p1-sequential.svg", SvgBars.Draw(
                "Sequential stress: network faults by working set", "% of the working set's pages", [.. sets.Select(static s => $"{s} MiB")],
                [
                    .. Sequential.GroupBy(static r => r.Order).Select(g => new BarSeries($"Fabric {Words.Name(g.Key)}", [.. sets.Select(s => g.FirstOrDefault(r => r.Mebibytes == s)?.SharePercent)])),
                    new BarSeries("paper push-only", [.. sets.Select(static s => PaperSequential.TryGetValue(s, out var p) ? p.PushOnly : (double?)null)]),
                    new BarSeries("paper pre-paging", [.. sets.Select(static s => PaperSequential.TryGetValue(s, out var p) ? p.PrePaging : (double?)null)]),
                ]));
        }

        if (Quicksort.Count > 0)
        {
            yield return ("paper-p1-quicksort.svg", SvgBars.Draw(
                "Quicksort, 32 processes: network faults by page order", "faults", [.. Quicksort.Select(static r => Words.Name(r.Order))],
                [
                    new BarSeries("Fabric", [.. Quicksort.Select(static r => (double?)r.Network.Median)]),
                    new BarSeries("paper", [.. Quicksort.Select(static r => PaperQuicksort.TryGetValue(r.Order, out int p) ? p : (double?)null)]),
                ]));
        }
    }

    private void AppendSequential(StringBuilder text)
    {
        text.Append("\n## Sequential stress test\n\nA process goes over its working set in order, for ever (512 MiB guest). Share: network faults by the pages of the working set.\n\n![network faults by working set](paper-p1-sequential.svg)\n\n");
        text.Append("| set | order | network | share | paper | minor | stall ms | fault µs | total ms | downtime ms | MiB on the wire |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        foreach (var row in Sequential)
        {
            string paper = PaperSequential.TryGetValue(row.Mebibytes, out var p) ? string.Create(CultureInfo.InvariantCulture, $"{(row.Order == PageOrder.PushOnly ? p.PushOnly : p.PrePaging):0} %") : "–";
            text.Append(CultureInfo.InvariantCulture, $"| {row.Mebibytes} | {Words.Name(row.Order)} | {row.Network.ToText("0")} | {row.SharePercent:0.0} % | {paper} {Rest(row)}");
        }
    }

    private void AppendQuicksort(StringBuilder text)
    {
        double most = Quicksort.FirstOrDefault(static r => r.Order == PageOrder.PushOnly)?.Network.Median ?? 0;
        text.Append("\n## Quicksort\n\n32 processes sort 16 MiB each, for ever (1 GiB guest).\n\n![network faults by page order](paper-p1-quicksort.svg)\n\n");
        text.Append("| order | network | of push-only | paper | paper's share | minor | stall ms | fault µs | total ms | downtime ms | MiB on the wire |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        foreach (var row in Quicksort)
        {
            string paper = PaperQuicksort.TryGetValue(row.Order, out int p)
                ? string.Create(CultureInfo.InvariantCulture, $"{p} | {100.0 * p / PaperQuicksort[PageOrder.PushOnly]:0} %")
                : "– | –";
            text.Append(CultureInfo.InvariantCulture, $"| {Words.Name(row.Order)} | {row.Network.ToText("0")} | {(most > 0 ? 100 * row.Network.Median / most : 0):0} % | {paper} {Rest(row)}");
        }
    }

    private static string Rest(FaultRow row) => string.Create(
        CultureInfo.InvariantCulture,
        $"| {row.Minor.ToText("0")} | {row.StallMs.ToText("0")} | {row.FaultMedianUs.Median:0} | {row.TotalMs.ToText("0")} | {row.DowntimeMs.Median:0.0} | {row.WireBytes.Median / ByteSize.Mebi:0} |\n");
}
