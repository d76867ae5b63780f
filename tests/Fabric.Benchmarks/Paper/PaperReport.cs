using System.Globalization;
using System.Text;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Benchmarks.Paper;

/// <summary>What was measured, and by which command; the paper's own figures stand beside it.</summary>
/// <param name="Command">All but the tables.</param>
public sealed record PaperReport(string Machine, string Link, int Runs, string Command, List<FaultRow> Sequential, List<FaultRow> Quicksort, List<MoveRow> Moves)
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
        var text = new StringBuilder("# Post-copy with adaptive pre-paging and self-ballooning\n\n");
        text.Append(CultureInfo.InvariantCulture, $"{Machine}; two hosts on a link of {Link}. {Runs} moves each, in turn: medians, in brackets least – most. ");
        text.Append("Network: pages that the guest touched and that had to be asked for. Minor: pages that were on their way when it touched them, and holes. ");
        text.Append("Stall: how long the guest stood at both, in all. Every order but Fabric's own runs without read-ahead, as in the paper: ");
        text.Append("Hines, Deshpande, Gopalan, OSR'09, on Xen over gigabit Ethernet.\n");
        if (Sequential.Count > 0)
            AppendSequential(text);
        if (Quicksort.Count > 0)
            AppendQuicksort(text);
        if (Moves.Count > 0)
            AppendMoves(text);
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
                    .. Sequential.GroupBy(static r => r.Order).Select(g => new BarSeries(PaperOrders.NameOf(g.Key), [.. sets.Select(s => g.FirstOrDefault(r => r.Mebibytes == s)?.SharePercent)])),
                    new BarSeries("paper push-only", [.. sets.Select(static s => PaperSequential.TryGetValue(s, out var p) ? p.PushOnly : (double?)null)]),
                    new BarSeries("paper pre-paging", [.. sets.Select(static s => PaperSequential.TryGetValue(s, out var p) ? p.PrePaging : (double?)null)]),
                ]));
        }

        if (Quicksort.Count > 0)
        {
            yield return ("paper-p1-quicksort.svg", SvgBars.Draw(
                "Quicksort, 32 processes: network faults by page order", "faults", [.. Quicksort.Select(static r => r.Order == PaperOrders.Own ? Words.Name(r.Order) + " +ahead" : Words.Name(r.Order))],
                [
                    new BarSeries("Fabric", [.. Quicksort.Select(static r => (double?)r.Network.Median)]),
                    new BarSeries("paper", [.. Quicksort.Select(static r => PaperQuicksort.TryGetValue(r.Order, out int p) ? p : (double?)null)]),
                ]));
        }

        if (Moves.Count > 0)
        {
            yield return ("paper-p1-total.svg", Chart("Total time with and without the balloon", "seconds", static row => row.TotalMs.Median / 1000));
            yield return ("paper-p1-pages.svg", Chart("Pages sent with and without the balloon", "thousands of pages", static row => row.PagesSent.Median / 1000));
        }
    }

    private string Chart(string title, string unit, Func<MoveRow, double> number)
    {
        var groups = Moves.Select(static r => (r.Workload, r.Mode)).Distinct().ToList();
        return SvgBars.Draw(
            title, unit, [.. groups.Select(static g => $"{g.Workload}, {Words.Name(g.Mode)}")],
            [.. Moves.GroupBy(static r => r.Balloon).Select(b => new BarSeries($"balloon {Words.Name(b.Key)}", [.. groups.Select(g => b.Where(r => (r.Workload, r.Mode) == g).Select(r => (double?)number(r)).FirstOrDefault())]))]);
    }

    private void AppendSequential(StringBuilder text)
    {
        AppendHead(text, "Sequential stress test", "sequential");
        text.Append("A process goes over its working set in order, for ever (512 MiB guest). Share: network faults by the pages of the working set.\n\n![network faults by working set](paper-p1-sequential.svg)\n\n");
        text.Append("| set | order | network | share | paper | minor | stall ms | fault µs | asked µs | total ms | downtime ms | pages sent |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        foreach (var row in Sequential)
        {
            string paper = PaperSequential.TryGetValue(row.Mebibytes, out var p) ? string.Create(CultureInfo.InvariantCulture, $"{(row.Order == PageOrder.PushOnly ? p.PushOnly : p.PrePaging):0} %") : "–";
            text.Append(CultureInfo.InvariantCulture, $"| {row.Mebibytes} | {PaperOrders.NameOf(row.Order)} | {row.Network.ToText("0")} | {row.SharePercent:0.0} % | {paper} {Rest(row)}");
        }
    }

    private void AppendQuicksort(StringBuilder text)
    {
        double most = Quicksort.FirstOrDefault(static r => r.Order == PageOrder.PushOnly)?.Network.Median ?? 0;
        AppendHead(text, "Quicksort", "quicksort");
        text.Append("32 processes sort 16 MiB each, for ever (1 GiB guest).\n\n![network faults by page order](paper-p1-quicksort.svg)\n\n");
        text.Append("| order | network | of push-only | paper | paper's share | minor | stall ms | fault µs | asked µs | total ms | downtime ms | pages sent |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        foreach (var row in Quicksort)
        {
            string paper = PaperQuicksort.TryGetValue(row.Order, out int p)
                ? string.Create(CultureInfo.InvariantCulture, $"{p} | {100.0 * p / PaperQuicksort[PageOrder.PushOnly]:0} %")
                : "– | –";
            text.Append(CultureInfo.InvariantCulture, $"| {PaperOrders.NameOf(row.Order)} | {row.Network.ToText("0")} | {(most > 0 ? 100 * row.Network.Median / most : 0):0} % | {paper} {Rest(row)}");
        }
    }

    private void AppendMoves(StringBuilder text)
    {
        AppendHead(text, "Total time, downtime and pages, with and without self-ballooning", "moves");
        text.Append("Guests of 512 MiB. read-heavy goes over 256 MiB as fast as it can and writes one page in 64; write-heavy writes random pages of 256 MiB, 10000 a second; freed has dirtied 300 MiB and given them back ");
        text.Append("in pieces, and uses 16 MiB (a fresh guest for each move). Total: from the request to the end of the clean-up, the seconds in which the balloon takes memory included. ");
        text.Append("The paper, 2 GB guest, 512 MB written: pre-copy 73 s, with DSB 60 s; post-copy 36 s, with DSB 26 s; 0.52 M pages, with DSB 0.03 to 0.15 M. Downtimes 0.6 to 1.8 s.\n\n");
        text.Append("![total time](paper-p1-total.svg)\n\n![pages sent](paper-p1-pages.svg)\n\n");
        text.Append("| workload | mode | balloon | total ms | downtime ms | pages sent | MiB on the wire |\n|---|---|---|---:|---:|---:|---:|\n");
        foreach (var row in Moves)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {row.Workload} | {Words.Name(row.Mode)} | {Words.Name(row.Balloon)} | {row.TotalMs.ToText("0")} | {row.DowntimeMs.ToText()} ");
            text.Append(CultureInfo.InvariantCulture, $"| {row.PagesSent.ToText("0")} | {row.WireBytes.Median / ByteSize.Mebi:0} |\n");
        }
    }

    private void AppendHead(StringBuilder text, string title, string table) => text.Append(CultureInfo.InvariantCulture, $"\n## {title}\n\n    {Command} --tables {table}\n\n");

    private static string Rest(FaultRow row) => string.Create(
        CultureInfo.InvariantCulture,
        $"| {row.Minor.ToText("0")} | {row.StallMs.ToText("0")} | {row.FaultMedianUs.Median:0} | {row.ServiceMedianUs.Median:0} | {row.TotalMs.ToText("0")} | {row.DowntimeMs.Median:0.0} | {row.PagesSent.Median:0} |\n");
}
