using System.Globalization;
using System.Text;
using Fabric.Machines.Guests;
using Xunit;

namespace Fabric.Unit.Guests;

/// <summary>
/// The log of a guest is made here line by line, with known stops in it; the claim is that exactly these come out, and
/// that no text whatsoever does more than be counted.
/// </summary>
public sealed class HeartbeatLogTests
{
    private static string Line(long sequence, long t, long offset, long uncertainty, long edge, long gap = 1500, long errors = 0) => string.Create(
        CultureInfo.InvariantCulture,
        $"HB seq={sequence} t={t} gap_max_us={gap} at={t - 10} off_us={offset} unc_us={uncertainty} edge={edge} ops={sequence * 10} errors={errors} disk=0\n");

    /// <summary>A guest of 20 s with a clock that is slow by <paramref name="ppm"/>, stopped at 8.3 s for the given time.</summary>
    private static string Log(long stopUs, int ppm = 0)
    {
        var text = new StringBuilder("GUEST ready workload=oracle mb=64 rate=0 seed=1\nORACLE ready pages=16384\n");
        long sequence = 0, offset = 0, uncertainty = 3, edge = 0;
        for (long t = 1000; t <= 20_000; t += 250)
        {
            if (t % 1000 == 0)
            {
                edge = t - 50;
                offset = (t * ppm / 1000) + (t > 8300 ? stopUs : 0);
                // The first edge after the stop comes unexpected: it is missed, the next one is coarse.
                uncertainty = t == 10_000 && stopUs > 1500 ? 1100 : 3;
                if (t == 9000 && stopUs > 1500)
                {
                    edge = 8000 - 50;
                    offset = 8000 * ppm / 1000;
                }
            }

            text.Append(Line(++sequence, t, offset, uncertainty, edge, gap: t == 8500 ? 9100 : 1500));
        }

        return text.ToString();
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(400, 0)]
    [InlineData(12_600, 0)]
    [InlineData(12_600, 45)]
    [InlineData(12_600, -45)]
    [InlineData(1_200_000, 20)]
    public void A_stop_is_measured_whatever_the_rate_error(long stopUs, int ppm)
    {
        var downtime = HeartbeatLog.Parse(Log(stopUs, ppm)).DowntimeBetween(8250, 8750);
        Assert.NotNull(downtime);
        Assert.Equal(stopUs / 1000.0, downtime.StoppedMs, tolerance: 0.01);
        Assert.Equal(9.1, downtime.LargestGapMs, tolerance: 0.001);
        Assert.Equal(0.003, downtime.UncertaintyMs, tolerance: 0.0001);
    }

    [Fact]
    public void A_stop_outside_the_window_is_not_counted()
    {
        var log = HeartbeatLog.Parse(Log(12_600));
        Assert.Equal(0, log.DowntimeBetween(3000, 5000)!.StoppedMs);
        Assert.Equal(0, log.DowntimeBetween(14_000, 16_000)!.StoppedMs);
        Assert.Equal(1.5, log.DowntimeBetween(14_000, 16_000)!.LargestGapMs);
    }

    [Fact]
    public void There_is_no_answer_before_the_samples_are_there()
    {
        string text = Log(12_600);
        var log = new HeartbeatLog();
        log.Append(text.AsSpan(0, text.IndexOf("t=10250 ", StringComparison.Ordinal)));
        Assert.Null(log.DowntimeBetween(8250, 8750));
        Assert.Null(HeartbeatLog.Parse("HB seq=1 t=1 gap_max_us=1 at=1 off_us=- unc_us=- edge=- ops=0 errors=0 disk=0\n").DowntimeBetween(0, 1));
        Assert.Null(HeartbeatLog.Parse("").DowntimeBetween(0, 1));
    }

    [Fact]
    public void Text_that_comes_in_pieces_reads_the_same()
    {
        string text = Log(12_600).Replace("\n", "\r\n", StringComparison.Ordinal);
        for (int size = 1; size < 60; size += 7)
        {
            var log = new HeartbeatLog();
            for (int at = 0; at < text.Length; at += size)
                log.Append(text.AsSpan(at, Math.Min(size, text.Length - at)));
            Assert.Equal(77, log.Beats.Count);
            Assert.Equal(0, log.MalformedBeats + log.SequenceBreaks);
            Assert.Equal(12.6, log.DowntimeBetween(8250, 8750)!.StoppedMs, tolerance: 0.01);
            Assert.True(log is { IsReady: true, IsWorkloadReady: true, IsClean: true });
        }
    }

    [Theory]
    [InlineData("ORACLE ERROR step page=3 expected=0x7 found=0x6 sweep=12")]
    [InlineData("MEMORY ERROR page=8192 word=0 expected=0x2 found=0x0 generation=2")]
    [InlineData("STRESS ERROR ended status=2 signal=0")]
    [InlineData("stress-ng: fail:  [99] vm: detected 3 bit errors while stressing memory")]
    [InlineData("[   12.3] Kernel panic - not syncing: Fatal exception")]
    public void What_the_guest_reports_is_not_overlooked(string line)
    {
        var log = HeartbeatLog.Parse(Log(0) + line + "\n");
        Assert.False(log.IsClean);
        Assert.Equal([line], log.ErrorLines);
    }

    [Fact]
    public void An_error_that_only_the_beat_counts_is_not_overlooked() =>
        Assert.False(HeartbeatLog.Parse(Line(1, 1000, 0, 3, 900, errors: 1)).IsClean);

    [Fact]
    public void A_guest_that_was_set_back_shows_in_the_sequence() =>
        Assert.Equal(1, HeartbeatLog.Parse(Line(5, 5000, 0, 3, 900) + Line(6, 5250, 0, 3, 900) + Line(6, 5250, 0, 3, 900)).SequenceBreaks);

    [Theory]
    [InlineData("HB ")]
    [InlineData("HB seq=1")]
    [InlineData("HB seq=1 t=1 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=")]
    [InlineData("HB seq=1 t=1 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=0 more=1")]
    [InlineData("HB seq=- t=1 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=0")]
    [InlineData("HB seq=1 t=-1 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=0")]
    [InlineData("HB seq=1 t=99999999999999999999 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=0")]
    [InlineData("HB seq=1 t=9223372036854775807 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=0")]
    [InlineData("HB t=1 seq=1 gap_max_us=1 at=1 off_us=1 unc_us=1 edge=1 ops=0 errors=0 disk=0")]
    public void A_line_that_is_no_beat_is_counted_and_skipped(string line)
    {
        var log = HeartbeatLog.Parse(line + "\n");
        Assert.Empty(log.Beats);
        Assert.Equal(1, log.MalformedBeats);
    }

    [Fact]
    public void Random_text_is_bounded_and_harmless()
    {
        var random = new Random(20240607);
        var log = new HeartbeatLog();
        string alphabet = "HB seq=1 t2 gap_max_us=-9\n\r\0 ERROR \uD800ops=";
        var piece = new char[997];
        for (int round = 0; round < 2000; round++)
        {
            for (int i = 0; i < piece.Length; i++)
                piece[i] = round % 2 == 0 ? alphabet[random.Next(alphabet.Length)] : (char)random.Next(1, 256);
            log.Append(piece);
        }

        log.Append(new string('x', 1_000_000));
        log.Append("\n" + Line(1, 1000, 0, 3, 900));
        Assert.NotEmpty(log.Beats);
        Assert.True(log.ErrorLines.Count <= HeartbeatLog.ErrorLinesMax);
        Assert.True(log.ErrorLines.All(l => l.Length <= HeartbeatLog.LineCharactersMax));
        log.DowntimeBetween(long.MinValue, long.MaxValue);
        log.DowntimeBetween(0, 0);
    }

    [Fact]
    public void Only_the_newest_beats_are_kept()
    {
        var log = new HeartbeatLog();
        for (int i = 1; i <= HeartbeatLog.BeatsMax + 5; i++)
            log.Append(Line(i, i * 250L, 0, 3, 900));
        Assert.InRange(log.Beats.Count, HeartbeatLog.BeatsMax / 2, HeartbeatLog.BeatsMax);
        Assert.Equal(HeartbeatLog.BeatsMax + 5, log.Beats[^1].Sequence);
    }
}
