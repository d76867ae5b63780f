using Fabric.Transfer.Outgoing;
using Fabric.Wire.Data;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// The choice on a model of packers and a wire: what is packed is proven by the time that sending takes, beside the times of both fixed choices on the same model.
/// </summary>
public sealed class PackingChoiceTests
{
    private const Packings Both = Packings.Lz4 | Packings.Zstd;
    private const long Frame = 64 * 4096;
    private const double Gigabit = 117e6;

    /// <param name="wire">Bytes a second for one sender.</param>
    /// <param name="share">What LZ4 leaves of the pages; Zstandard leaves eight tenths of that, and takes twice the time.</param>
    [Theory]
    [InlineData(Gigabit / 100, 0.5)]
    [InlineData(Gigabit / 2, 0.5)]
    [InlineData(Gigabit, 0.9)]
    [InlineData(Gigabit, 1.0)]
    [InlineData(Gigabit * 5, 0.3)]
    [InlineData(Gigabit * 20, 0.1)]
    public void It_comes_close_to_the_better_of_the_fixed_choices(double wire, double share)
    {
        var choice = new PackingChoice(Both);
        double adaptive = 0;
        const int Frames = 2000;
        for (int i = 0; i < Frames; i++)
            adaptive += SendWith(choice, choice.Next(Frame, again: false), wire, share);
        double best = new[] { Packing.None, Packing.Lz4, Packing.Zstd }.Min(p => Frames * Cost(p, wire, share).Sum());
        Assert.InRange(adaptive / best, 0.9, 1.12);
    }

    [Fact]
    public void On_a_fast_wire_trials_take_little_of_the_time()
    {
        var choice = new PackingChoice(Both);
        double packing = 0;
        double all = 0;
        for (int i = 0; i < 10_000; i++)
        {
            var how = choice.Next(Frame, again: false);
            packing += how == Packing.None ? 0 : Cost(how, 2e9, 0.5).Pack;
            all += SendWith(choice, how, 2e9, 0.5);
        }

        Assert.InRange(packing / all, 0, PackingChoice.TrialShare + 0.01);
    }

    [Fact]
    public void Memory_that_packs_well_behind_memory_that_does_not_is_found()
    {
        var choice = new PackingChoice(Both);
        for (int i = 0; i < 200; i++)
            SendWith(choice, choice.Next(Frame, again: false), Gigabit / 2, 1);
        int plain = 0;
        for (int i = 0; i < 100; i++)
        {
            var how = choice.Next(Frame, again: false);
            plain += how == Packing.None ? 1 : 0;
            SendWith(choice, how, Gigabit / 2, 0.3);
        }

        Assert.InRange(plain, 0, 15);
    }

    [Fact]
    public void On_small_frames_nothing_is_tried()
    {
        var choice = new PackingChoice(Both);
        SendWith(choice, choice.Next(Frame, again: false), 2e9, 0.5);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(Packing.None, choice.Next(4096, again: false));
            choice.Sent(Packing.None, 4096, 4096, 0, 1e-6);
        }
    }

    [Fact]
    public void What_was_not_agreed_on_is_never_chosen()
    {
        var choice = new PackingChoice(Packings.Zstd);
        var seen = new HashSet<Packing>();
        for (int i = 0; i < 500; i++)
        {
            var how = choice.Next(Frame, again: false);
            seen.Add(how);
            SendWith(choice, how, Gigabit / 2, 0.4);
        }

        Assert.Equal([Packing.None, Packing.Zstd], seen.Order());
    }

    private static double SendWith(PackingChoice choice, Packing how, double wire, double share)
    {
        var (pack, send) = Cost(how, wire, share);
        choice.Sent(how, Frame, (long)(send * wire), pack, send);
        return pack + send;
    }

    private static (double Pack, double Send) Cost(Packing how, double wire, double share) => how switch
    {
        Packing.Lz4 => (Frame / 600e6, Frame * share / wire),
        Packing.Zstd => (Frame / 300e6, Frame * share * 0.8 / wire),
        _ => (0, Frame / wire),
    };
}

internal static class Costs
{
    internal static double Sum(this (double Pack, double Send) cost) => cost.Pack + cost.Send;
}
