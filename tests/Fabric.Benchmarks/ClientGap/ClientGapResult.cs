using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Benchmarks.Compare;
using Fabric.Benchmarks.Lab;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Benchmarks.ClientGap;

/// <summary>What is moved, how often and how.</summary>
public sealed record ClientGapOptions
{
    /// <summary>A card on <see cref="LinkLab.Bridge"/> and an address are added.</summary>
    public required VmSpec Guest { get; init; }

    /// <summary>Null: the guest is Linux and serves its clients. Else it is iPXE, which downloads so many bytes into its memory and then numbers.</summary>
    public long? DownloadBytes { get; init; }

    public required int Moves { get; init; }

    /// <summary>Taken in turn.</summary>
    public IReadOnlyList<MigrationMode> Modes { get; init; } = [MigrationMode.PreCopy, MigrationMode.PostCopy, MigrationMode.Hybrid];

    /// <summary>Of the hosts' links; null: as fast as this machine is.</summary>
    public LinkShape? Shape { get; init; }

    /// <summary>What a move may send, bytes a second; null: as much as the link takes.</summary>
    public long? Bandwidth { get; init; }
}

/// <summary>
/// One move as a client saw it, in ms. <paramref name="CalmMs"/>: the longest gap of the second before it, when nothing moved. <paramref name="GuestGapMs"/>: the longest time in
/// which the guest itself, by its own clock, ran and could not go on: no network would have made that shorter; null where the guest has no such clock.
/// </summary>
public sealed record ClientGapSample(int Move, MigrationMode Mode, StreamKind Stream, double DowntimeMs, double GapMs, double CalmMs, double? GuestGapMs, double TotalMs)
{
    /// <summary>How much longer than its downtime a move may be felt.</summary>
    public const double AllowedMs = 50;

    public double ExcessMs => GapMs - DowntimeMs;

    public bool Ok => ExcessMs <= AllowedMs;
}

/// <param name="LateFrames">Frames that came to a source after the guest's stop and that it sent after the guest, by the agents' logs.</param>
public sealed record ClientGapResult(string Machine, string Guest, int Moves, IReadOnlyList<ClientGapSample> Samples, long LateFrames, IReadOnlyList<string> Left)
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
    };

    public bool Ok => Samples.Count > 0 && Samples.All(static s => s.Ok) && Left.Count == 0;

    public string ToJson() => JsonSerializer.Serialize(this, Json);

    public string ToMarkdown()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# What a client of a moving guest sees\n\nMachine: {Machine}\n\nGuest: `{Guest}`, {Moves} moves, one after the other, over the same TCP connections from a third network namespace.\n\n");
        text.Append("Gap: longest time without an answer, at the client. Calm: the same in the second before the move. Excess: gap less the downtime that the agents report; ");
        text.Append(CultureInfo.InvariantCulture, $"at most {ClientGapSample.AllowedMs} ms are allowed. Guest: longest time in which the guest ran and could not go on, by its own clock. In ms: median (least – most).\n\n");
        text.Append("Streams: `ticks`, the guest sends every millisecond; `echo`, the client sends every millisecond and gets it back; `ask`, the client sends the next one when it has the answer; `download`, the guest downloads, and the next number goes to it when the last is acknowledged.\n\n");
        text.Append("| mode | stream | moves | downtime | gap | excess | guest | calm | within |\n|---|---|---|---|---|---|---|---|---|\n");
        foreach (var group in Samples.GroupBy(static s => (s.Mode, s.Stream)).OrderBy(static g => g.Key))
        {
            text.Append(CultureInfo.InvariantCulture, $"| {Word(group.Key.Mode)} | {Word(group.Key.Stream)} | {group.Count()} | {Show(group.Select(static s => s.DowntimeMs))} | {Show(group.Select(static s => s.GapMs))} ");
            text.Append(CultureInfo.InvariantCulture, $"| {Show(group.Select(static s => s.ExcessMs))} | {Show(group.Where(static s => s.GuestGapMs is not null).Select(static s => s.GuestGapMs!.Value))} | {Show(group.Select(static s => s.CalmMs))} | {group.Count(static s => s.Ok)} of {group.Count()} |\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"\nFrames that came to a source after the guest's stop, and were sent after it: {LateFrames}.\n");
        foreach (string left in Left)
            text.Append(CultureInfo.InvariantCulture, $"\nLeft behind: {left}\n");
        return text.ToString();
    }

    private static string Word<T>(T value)
        where T : struct, Enum => JsonNamingPolicy.KebabCaseLower.ConvertName(value.ToString());

    private static string Show(IEnumerable<double> values) => Statistics.Of(values) is { } known
        ? string.Create(CultureInfo.InvariantCulture, $"{known.Median:0.0} ({known.Least:0.0} – {known.Most:0.0})")
        : "–";
}
