using Fabric.Benchmarks.Compare;
using Xunit;

namespace Fabric.Integration.Comparing;

/// <summary>
/// What a move cost a guest, from its beats. Claim: a stop, a slow time and a time without beats are found with their length, and an undisturbed guest has lost nothing. Proof: beats of guests that are made up, whose
/// losses are known.
/// </summary>
public sealed class GuestWorkTests
{
    private const int PerSecond = 40_000;
    private static readonly TimeSpan Start = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Ended = TimeSpan.FromSeconds(13);
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(6);

    [Fact]
    public void A_guest_that_goes_on_has_lost_nothing() => Assert.Equal(0, Lost(Beats(static _ => 1)), 3);

    [Fact]
    public void A_stop_counts_with_its_length_and_with_the_beat_that_is_late() => Assert.InRange(Lost(Beats(static at => at is >= 11 and < 11.5 ? 0 : 1)), 499, 501);

    [Fact]
    public void A_guest_that_is_slowed_to_a_quarter_for_two_seconds_has_lost_a_second_and_a_half() => Assert.InRange(Lost(Beats(static at => at is >= 11 and < 13 ? 0.25 : 1)), 1499, 1501);

    [Fact]
    public void What_a_paced_guest_catches_up_was_lost_all_the_same() => Assert.InRange(Lost(Beats(static at => at switch { >= 11 and < 11.75 => 0, >= 11.75 and < 13.25 => 1.5, _ => 1 })), 749, 751);

    /// <summary>A guest as fast as its host lets it be, on a host that becomes slower all the time; with a stop of half a second, and without.</summary>
    [Theory]
    [InlineData(0, 0, 40)]
    [InlineData(0.5, 430, 540)]
    public void A_host_that_becomes_slower_by_itself_is_not_the_move(double stop, double least, double most)
    {
        var beats = Beats(at => at >= 11 && at < 11 + stop ? 0 : 1 - (0.02 * (at - 8)));
        Assert.InRange(Lost(beats), least, most);
        Assert.InRange(GuestWork.Of(beats, Start, Ended, Window)!.Value.PaceAfter!.Value, 0.75, 0.85);
    }

    [Fact]
    public void A_guest_that_is_slower_where_it_is_now_shows_in_its_pace() =>
        Assert.Equal(0.8, GuestWork.Of(Beats(static at => at < 12 ? 1 : 0.8), Start, Ended, Window)!.Value.PaceAfter!.Value, 0.01);

    [Fact]
    public void What_was_lost_after_the_window_does_not_count() => Assert.Equal(0, Lost(Beats(static at => at is >= 16.5 ? 0 : 1)), 3);

    [Fact]
    public void A_guest_that_beats_no_more_has_lost_the_rest_of_the_window() => Assert.InRange(Lost([.. Beats(static _ => 1).TakeWhile(static s => s.At.TotalSeconds <= 12)]), 3999, 4001);

    [Fact]
    public void An_idle_guest_and_one_that_is_not_known_long_enough_have_no_figure()
    {
        Assert.Null(GuestWork.Of([.. Beats(static _ => 1).Select(static s => s with { Operations = s.Operations / 1000 })], Start, Ended, Window));
        Assert.Null(GuestWork.Of([.. Beats(static _ => 1).Where(static s => s.At >= Start - TimeSpan.FromSeconds(1))], Start, Ended, Window));
    }

    private static double Lost(IReadOnlyList<WorkSample> samples) => GuestWork.Of(samples, Start, Ended, Window)!.Value.Ms;

    /// <summary>A beat each quarter of a second, of a guest that works at some share of its pace.</summary>
    private static List<WorkSample> Beats(Func<double, double> pace)
    {
        var samples = new List<WorkSample>();
        double done = 0;
        for (int quarter = 0; quarter < 80; quarter++)
        {
            double at = 0.25 * quarter;
            samples.Add(new WorkSample(TimeSpan.FromSeconds(at), (long)done));
            done += 0.25 * PerSecond * pace(at);
        }

        return samples;
    }
}
