namespace Fabric.Machines.Guests;

/// <summary>What a guest saw of a switch-over.</summary>
/// <param name="StoppedMs">
/// Milliseconds in which the guest did not exist: the host's clock went on and the guest's did not. This is the downtime.
/// </param>
/// <param name="LargestGapMs">
/// Longest time, on the guest's own clock, in which it existed but its 1 ms beat did not come: waiting for a page, for the
/// host's processor, for its own kernel. Some milliseconds are usual without KVM, migration or not.
/// </param>
/// <param name="UncertaintyMs">How far <paramref name="StoppedMs"/> may be off.</param>
public sealed record GuestDowntime(double StoppedMs, double LargestGapMs, double UncertaintyMs);

/// <summary>
/// Reads the serial log of a test guest: its heartbeat, what its checkers said, and how long it was stopped.
/// <para>
/// A stopped VM's clocks stand still, so its own clock never shows a stop. The guest therefore notes, once a second, its own
/// clock at the edge of the CMOS second, which QEMU takes from the host's wall clock at every read. The difference of two
/// such samples, one from before and one from after a switch-over, less the rate error of the clocks, is the time
/// for which the guest was stopped in between. A sample right after a stop is coarse (the edge came unexpected), so the
/// measurement is there some 3 s of guest time after the switch-over: <see cref="DowntimeBetween"/> is null until then.
/// </para>
/// <para>
/// After a move the line continues in the destination's log: append that text to the source's. A line may be
/// torn between the two, and is whole again once both are appended. Not safe for concurrent use. The text is hostile:
/// every line and list is bounded.
/// </para>
/// </summary>
public sealed class HeartbeatLog
{
    /// <summary>Longer lines are not the guest program's; they are skipped.</summary>
    public const int LineCharactersMax = 512;

    /// <summary>Beats kept (seven hours); the oldest are dropped beyond it.</summary>
    public const int BeatsMax = 100_000;

    /// <summary>Error lines kept word for word; all are counted.</summary>
    public const int ErrorLinesMax = 100;

    /// <summary>A sample wider than this is not used to measure with.</summary>
    public const long SettledUncertaintyUs = 200;

    private readonly List<Heartbeat> _beats = [];
    private readonly List<string> _errors = [];
    private readonly System.Text.StringBuilder _open = new();
    private bool _skippingLongLine;

    public IReadOnlyList<Heartbeat> Beats => _beats;

    /// <summary>The first <see cref="ErrorLinesMax"/> lines in which the guest reported an error.</summary>
    public IReadOnlyList<string> ErrorLines => _errors;

    /// <summary>All such lines. A guest that found an error says so again every second.</summary>
    public long ErrorLineCount { get; private set; }

    /// <summary>The guest program runs.</summary>
    public bool IsReady { get; private set; }

    /// <summary>The workload has laid out its memory (never for <c>idle</c>).</summary>
    public bool IsWorkloadReady { get; private set; }

    /// <summary>How often a checker (ORACLE, MEMORY) has said that all is well.</summary>
    public long OkCount { get; private set; }

    /// <summary>
    /// Beats whose number is not the one after the beat before. A guest that was set back to an older moment, or two that
    /// write into one log, show here; so does text that was lost.
    /// </summary>
    public long SequenceBreaks { get; private set; }

    /// <summary>Lines that begin like a beat and are none.</summary>
    public long MalformedBeats { get; private set; }

    /// <summary>No error was reported in any form.</summary>
    public bool IsClean => ErrorLineCount == 0 && (_beats.Count == 0 || _beats[^1].Errors == 0);

    public static HeartbeatLog Parse(ReadOnlySpan<char> text)
    {
        var log = new HeartbeatLog();
        log.Append(text);
        return log;
    }

    /// <summary>Adds what has been written since. A last line without its end is kept until the rest of it comes.</summary>
    public void Append(ReadOnlySpan<char> text)
    {
        while (!text.IsEmpty)
        {
            int end = text.IndexOf('\n');
            ReadOnlySpan<char> piece = end < 0 ? text : text[..end];
            if (_open.Length + piece.Length > LineCharactersMax)
                _skippingLongLine = true;
            if (!_skippingLongLine)
                _open.Append(piece);
            if (end < 0)
                return;
            if (!_skippingLongLine)
                Line(_open.ToString().AsSpan().Trim("\r\0"));
            _open.Clear();
            _skippingLongLine = false;
            text = text[(end + 1)..];
        }
    }

    /// <summary>
    /// How long the guest was stopped between two moments of its own clock: <paramref name="fromGuestMs"/> of a beat before the
    /// switch-over, <paramref name="toGuestMs"/> of a beat after it. Null while the samples around it are not there: before the
    /// guest's third second, until some 3 s after the switch-over, and where the guest reads no CMOS clock. All stops in
    /// between add up: to tell two apart they must lie 4 s apart. Stops of a minute and longer are counted modulo 60 s.
    /// </summary>
    public GuestDowntime? DowntimeBetween(long fromGuestMs, long toGuestMs)
    {
        var samples = SettledSamples();
        int before = samples.FindLastIndex(s => s.EdgeMs <= fromGuestMs);
        int after = samples.FindIndex(s => s.EdgeMs >= toGuestMs);
        if (before < 0 || after < 0 || after <= before)
            return null;
        double elapsedMs = samples[after].EdgeMs - samples[before].EdgeMs;
        double stoppedUs = samples[after].OffsetUs - samples[before].OffsetUs - RateErrorUsPerMs(samples) * elapsedMs;
        double uncertaintyUs = (samples[after].UncertaintyUs + samples[before].UncertaintyUs) / 2.0;
        return new GuestDowntime(Math.Max(0, stoppedUs) / 1000, LargestGapUs(fromGuestMs, toGuestMs) / 1000.0, uncertaintyUs / 1000);
    }

    private long LargestGapUs(long fromMs, long toMs)
    {
        long largest = 0;
        for (int i = _beats.Count - 1; i >= 0 && _beats[i].GuestMs > fromMs; i--)
        {
            if (i == 0 || _beats[i - 1].GuestMs < toMs)
                largest = Math.Max(largest, _beats[i].GapMaxUs);
        }

        return largest;
    }

    private List<HostClockSample> SettledSamples()
    {
        var samples = new List<HostClockSample>();
        foreach (var beat in _beats)
        {
            // Each sample stands in several beats; the first of them counts. A clock that goes back is a lie.
            if (beat.Host is { } host && host.UncertaintyUs <= SettledUncertaintyUs && (samples.Count == 0 || host.EdgeMs > samples[^1].EdgeMs))
                samples.Add(host);
        }

        return samples;
    }

    /// <summary>The median slope of the offset over neighbouring samples; those with a stop between them are far above the bound.</summary>
    private static double RateErrorUsPerMs(List<HostClockSample> samples)
    {
        const double RateErrorMax = 0.3; // 300 ppm: no calibrated clock is worse
        var slopes = new List<double>();
        for (int i = 1; i < samples.Count; i++)
        {
            double slope = (samples[i].OffsetUs - samples[i - 1].OffsetUs) / (double)(samples[i].EdgeMs - samples[i - 1].EdgeMs);
            if (Math.Abs(slope) <= RateErrorMax)
                slopes.Add(slope);
        }

        slopes.Sort();
        return slopes.Count < 3 ? 0 : slopes[slopes.Count / 2];
    }

    private void Line(ReadOnlySpan<char> line)
    {
        if (line.StartsWith(Heartbeat.Prefix, StringComparison.Ordinal))
        {
            if (Heartbeat.TryParse(line, out var beat))
                Beat(beat!);
            else
                MalformedBeats++;
        }
        else if (IsError(line))
        {
            if (ErrorLineCount++ < ErrorLinesMax)
                _errors.Add(line.ToString());
        }
        else if (line.StartsWith("GUEST ready", StringComparison.Ordinal))
        {
            IsReady = true;
        }
        else if (line.StartsWith("ORACLE ready", StringComparison.Ordinal) || line.StartsWith("MEMORY ready", StringComparison.Ordinal))
        {
            IsWorkloadReady = true;
        }
        else if (line.StartsWith("ORACLE ok ", StringComparison.Ordinal) || line.StartsWith("MEMORY ok ", StringComparison.Ordinal))
        {
            OkCount++;
        }
    }

    private void Beat(Heartbeat beat)
    {
        if (_beats.Count > 0 && beat.Sequence != _beats[^1].Sequence + 1)
            SequenceBreaks++;
        if (_beats.Count == BeatsMax)
            _beats.RemoveRange(0, BeatsMax / 10);
        _beats.Add(beat);
    }

    private static bool IsError(ReadOnlySpan<char> line) =>
        line.Contains(" ERROR ", StringComparison.Ordinal)
        || line.StartsWith("stress-ng: fail", StringComparison.Ordinal)
        || line.StartsWith("stress-ng: error", StringComparison.Ordinal)
        || line.Contains("Kernel panic", StringComparison.Ordinal)
        || line.Contains("BUG: ", StringComparison.Ordinal);
}
