using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>One row: a mover in a mode, over all its runs that did not fail.</summary>
public sealed record ReportRow(
    string Mover, MoveMode Mode, int Runs, int Failures, Statistics? TotalMs, Statistics? DowntimeMs, Statistics? GuestStoppedMs, Statistics? GuestGapMs,
    Statistics? WireMebibytes, double? TotalRatio, double? DowntimeRatio, bool AllVerified, bool AllClean);

/// <summary>The comparison as numbers (JSON) and for people (Markdown).</summary>
public sealed record Report(string Machine, string Guest, int RunsEach, string Baseline, IReadOnlyList<ReportRow> Rows, IReadOnlyList<MoveResult> Results)
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
    };

    /// <param name="baseline">The mover that ratios are taken against, mode by mode.</param>
    public static Report Of(string machine, string guest, int runsEach, string baseline, IReadOnlyList<MoveResult> results)
    {
        var rows = new List<ReportRow>();
        foreach (var group in results.GroupBy(r => (r.Mode, r.Mover)).OrderBy(g => g.Key.Mode).ThenBy(g => g.Key.Mover, StringComparer.Ordinal))
        {
            MoveResult[] good = [.. group.Where(r => r.Failure is null)];
            MoveResult[] compared = [.. results.Where(r => r.Failure is null && r.Mode == group.Key.Mode && r.Mover == baseline)];
            var total = Statistics.Of(good.Select(r => r.TotalMs));
            var downtime = Statistics.Of(good.Select(r => r.DowntimeMs));
            rows.Add(new ReportRow(
                group.Key.Mover,
                group.Key.Mode,
                good.Length,
                group.Count() - good.Length,
                total,
                downtime,
                Statistics.Of(good.Where(r => r.GuestStoppedMs is not null).Select(r => r.GuestStoppedMs!.Value)),
                Statistics.Of(good.Where(r => r.GuestGapMs is not null).Select(r => r.GuestGapMs!.Value)),
                Statistics.Of(good.Select(r => r.WireBytes / (double)ByteSize.Mebi)),
                Ratio(total, Statistics.Of(compared.Select(r => r.TotalMs))),
                Ratio(downtime, Statistics.Of(compared.Select(r => r.DowntimeMs))),
                good.Length > 0 && good.All(r => r.Verified == true),
                good.Length > 0 && good.All(r => r.GuestClean)));
        }

        return new Report(machine, guest, runsEach, baseline, rows, results);
    }

    public string ToJson() => JsonSerializer.Serialize(this, Json);

    public string ToMarkdown()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Fabric beside QEMU's own migration\n\nMachine: {Machine}\n\nGuest: `{Guest}`, {RunsEach} alternating runs each, every run with a freshly booted guest.\n\n");
        text.Append("Times in ms: median (least – most). Total: destination waits for the state → all is there and the guest runs. Downtime: vCPUs stopped → vCPUs run, ");
        text.Append("by QEMU's events or the agents' records. Stopped: the same as the guest saw it by the host's clock. Gap: longest time in which the running guest could not go on.\n\n");
        text.Append(CultureInfo.InvariantCulture, $"| mode | mover | runs | total | × {Baseline} | downtime | × {Baseline} | stopped (guest) | gap (guest) | MiB on the wire | content check | guest's memory |\n");
        text.Append("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        foreach (var row in Rows)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {(row.Mode == MoveMode.PreCopy ? "pre-copy" : "post-copy")} | {row.Mover} | {row.Runs}{(row.Failures > 0 ? $" (+{row.Failures} failed)" : "")} ");
            text.Append(CultureInfo.InvariantCulture, $"| {Show(row.TotalMs)} | {Show(row.TotalRatio)} | {Show(row.DowntimeMs)} | {Show(row.DowntimeRatio)} | {Show(row.GuestStoppedMs)} | {Show(row.GuestGapMs)} ");
            text.Append(CultureInfo.InvariantCulture, $"| {Show(row.WireMebibytes)} | {(row.AllVerified ? "yes" : "none")} | {(row.AllClean ? "clean" : "ERRORS")} |\n");
        }

        foreach (var failure in Results.Where(r => r.Failure is not null).GroupBy(r => (r.Mover, r.Mode, r.Failure)))
            text.Append(CultureInfo.InvariantCulture, $"\nFailed {failure.Count()}×: {failure.Key.Mover}, {failure.Key.Mode}: {failure.Key.Failure}\n");
        return text.ToString();
    }

    private static double? Ratio(Statistics? value, Statistics? baseline) => value is null || baseline is null || baseline.Median <= 0 ? null : value.Median / baseline.Median;

    private static string Show(Statistics? value) => value?.ToText() ?? "–";

    private static string Show(double? ratio) => ratio is null ? "–" : string.Create(CultureInfo.InvariantCulture, $"{ratio:0.00}");
}
