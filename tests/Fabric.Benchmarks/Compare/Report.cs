using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>The comparison as numbers (JSON) and for people (Markdown): a table and a list of verdicts for each cell.</summary>
public sealed record Report(string Machine, int RunsEach, IReadOnlyList<Cell> Cells)
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
    };

    public string ToJson() => JsonSerializer.Serialize(
        new
        {
            Machine,
            RunsEach,
            Cells = Cells.Select(static c => new
            {
                Link = c.Link.Name,
                c.Link.Shape?.BitsPerSecond,
                c.Load,
                c.Load.Append,
                c.Command,
                CapSeconds = c.Within.TotalSeconds,
                WindowSeconds = c.Window.TotalSeconds,
                Rows = c.Rows(),
                Verdicts = Bars.Of(c),
                c.Results,
            }),
        },
        Json);

    public string ToMarkdown()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Fabric beside QEMU's own migration\n\nMachine: {Machine}. {RunsEach} alternating runs each, every run with a freshly booted guest.\n\n");
        text.Append("Times in ms: median (least – most). Total: destination waits for the state → all is there and the guest runs. Downtime: vCPUs stopped → vCPUs run, ");
        text.Append("by QEMU's events or the agents' records. Stopped: the same as the guest saw it by the host's clock. Gap: longest time in which the running guest could not go on. ");
        text.Append("Work lost: how far the guest's work fell behind its pace before the move, at most, within a window that is the same for all (docs/TESTING.md). Pace after: its pace when the move was long over, by that before. ");
        text.Append("qemu: its defaults; qemu-best: no bandwidth cap, multifd in pre-copy, postcopy-preempt in post-copy; qemu-shared: the same of a guest whose memory can be shared, as that of Fabric's guests.\n");
        AppendSummary(text);
        foreach (var cell in Cells.Where(static c => c.Results.Count > 0))
            AppendCell(text, cell);
        return text.ToString();
    }

    private void AppendSummary(StringBuilder text)
    {
        var all = Cells.SelectMany(static c => Bars.Of(c).Select(v => (cell: c, verdict: v))).ToList();
        if (all.Count == 0)
            return;
        text.Append(CultureInfo.InvariantCulture, $"\nBars: {all.Count(static v => v.verdict.Met == true)} met, {all.Count(static v => v.verdict.Met == false)} not met.\n");
        foreach (var (cell, verdict) in all.Where(static v => v.verdict.Met == false))
            text.Append(CultureInfo.InvariantCulture, $"- not met: {cell.Title}: {verdict.Bar} {verdict.Needed}: {verdict.Figure}\n");
    }

    private static void AppendCell(StringBuilder text, Cell cell)
    {
        text.Append(CultureInfo.InvariantCulture, $"\n## {cell.Title}\n\n    {cell.Command}\n\n");
        text.Append(CultureInfo.InvariantCulture, $"Guest: `{cell.Load.Append}`: {cell.Load.Filled} of {cell.Load.MemoryBytes / ByteSize.Mebi} MiB are filled with patterns, no page like another. ");
        if (cell.Window > TimeSpan.Zero)
            text.Append(CultureInfo.InvariantCulture, $"Work is looked at for {cell.Window.TotalSeconds:0} s from the start of the move. ");
        text.Append(CultureInfo.InvariantCulture, $"A move is called off after {cell.Within.TotalSeconds:0} s.\n\n");
        text.Append("| mode | mover | runs | total | × qemu | downtime | × qemu | stopped (guest) | gap (guest) | work lost | pace after | MiB on the wire | content check | guest's memory |\n");
        text.Append("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        var rows = cell.Rows();
        foreach (var row in rows)
            AppendRow(text, row, rows.FirstOrDefault(r => r.Mover == "qemu" && r.Mode == row.Mode));
        text.Append("\n| bar | needed | figure | verdict |\n|---|---|---|---|\n");
        foreach (var verdict in Bars.Of(cell))
            text.Append(CultureInfo.InvariantCulture, $"| {verdict.Bar} | {verdict.Needed} | {verdict.Figure} | {(verdict.Met switch { true => "met", false => "**not met**", null => "–" })} |\n");
        foreach (var failure in cell.Results.Where(static r => r is { Failure: not null, NoEnd: false }).GroupBy(static r => (r.Mover, r.Mode, r.Failure)))
            text.Append(CultureInfo.InvariantCulture, $"\nFailed {failure.Count()}×: {failure.Key.Mover}, {CompareOptions.NameOf(failure.Key.Mode)}: {failure.Key.Failure}\n");
    }

    private static void AppendRow(StringBuilder text, ReportRow row, ReportRow? baseline)
    {
        string others = (row.NoEnds > 0 ? $" (+{row.NoEnds} without end)" : "") + (row.Failures > 0 ? $" (+{row.Failures} failed)" : "");
        text.Append(CultureInfo.InvariantCulture, $"| {CompareOptions.NameOf(row.Mode)} | {row.Mover} | {row.Runs}{others} ");
        text.Append(CultureInfo.InvariantCulture, $"| {Show(row.TotalMs)} | {Ratio(row.TotalMs, baseline?.TotalMs)} | {Show(row.DowntimeMs)} | {Ratio(row.DowntimeMs, baseline?.DowntimeMs)} | {Show(row.GuestStoppedMs)} | {Show(row.GuestGapMs)} ");
        text.Append(CultureInfo.InvariantCulture, $"| {row.LostWorkMs?.ToText("0") ?? "–"} | {row.PaceAfter?.ToText("0.00") ?? "–"} | {Show(row.WireMebibytes)} | {(row.AllVerified ? "yes" : "none")} | {(row.Runs == 0 ? "–" : row.AllClean ? "clean" : "ERRORS")} |\n");
    }

    private static string Show(Statistics? value) => value?.ToText() ?? "–";

    private static string Ratio(Statistics? value, Statistics? baseline) =>
        value is null || baseline is null || baseline.Median <= 0 ? "–" : (value.Median / baseline.Median).ToString("0.00", CultureInfo.InvariantCulture);
}
