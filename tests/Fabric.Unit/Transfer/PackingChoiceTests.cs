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
    /// <param name="share">What LZ4 leaves of the pages.</param>
    [Theory]
    [InlineData(Gigabit / 100, 0.5)]
    [InlineData(Gigabit / 2, 0.5)]
    [InlineData(Gigabit, 0.9)]
    [InlineData(Gigabit, 1.0)]
    [InlineData(Gigabit, 1.25)]
    [InlineData(Gigabit * 5, 0.3)]
    [InlineData(Gigabit * 20, 0.1)]
    public void It_comes_close_to_the_better_of_the_fixed_choices(double wire, double share)
    {
        const int Frames = 2000;
        var choice = new PackingChoice(Both);
        var adaptive = new Wire(wire);
        for (int i = 0; i < Frames; i++)
            SendOne(choice, adaptive, share);
        double best = new[] { Packing.None, Packing.Lz4, Packing.Zstd }.Min(Fixed);
        Assert.InRange(adaptive.Now / best, 0.9, 1.12);

        double Fixed(Packing how)
        {
            var model = new Wire(wire);
            for (int i = 0; i < Frames; i++)
                model.Send(how, share);
            return model.Now;
        }
    }

    /// <param name="agreed">What may be tried.</param>
    /// <param name="speed">As <c>wire</c> above.</param>
    /// <param name="share">As above.</param>
    /// <param name="most">Of the time. Where packing is far behind the wire, less than where it only does not pay.</param>
    [Theory]
    [InlineData(Both, 2e9, 0.5, 0.01)]
    [InlineData(Both, 2e9, 0.05, 0.01)]
    [InlineData(Packings.Lz4, Gigabit, 1.25, PackingChoice.TrialShare + 0.01)]
    public void Where_it_does_not_pay_trials_take_little_of_the_time(Packings agreed, double speed, double share, double most)
    {
        var choice = new PackingChoice(agreed);
        var wire = new Wire(speed);
        for (int i = 0; i < 10_000; i++)
            SendOne(choice, wire, share);
        Assert.InRange(wire.PackSeconds / wire.Now, 0, most);
    }

    [Fact]
    public void Memory_that_packs_well_behind_memory_that_does_not_is_found()
    {
        var choice = new PackingChoice(Both);
        var wire = new Wire(Gigabit / 2);
        for (int i = 0; i < 200; i++)
            SendOne(choice, wire, 1.25);
        double before = wire.Now;
        int plain = Enumerable.Range(0, 100).Count(_ => SendOne(choice, wire, 0.3) == Packing.None);
        Assert.InRange(plain, 0, 15);
        Assert.InRange((wire.Now - before) / (100 * Frame * 0.3 / (Gigabit / 2)), 0.7, 1.4);
    }

    [Fact]
    public void Where_packing_takes_next_to_nothing_small_patches_that_pack_are_not_missed()
    {
        var choice = new PackingChoice(Both);
        var wire = new Wire(Gigabit / 4);
        for (int i = 0; i < 20; i++)
            SendOne(choice, wire, 0.9);
        int missed = 0;
        for (int i = 0; i < 1000; i++)
        {
            bool packs = i % 7 == 0;
            var how = SendOne(choice, wire, packs ? 0.4 : 1.25);
            missed += packs && how == Packing.None ? 1 : 0;
        }

        Assert.Equal(0, missed);
    }

    [Fact]
    public void A_thread_that_was_put_off_once_does_not_end_the_packing()
    {
        var choice = new PackingChoice(Both);
        var wire = new Wire(Gigabit / 4);
        for (int i = 0; i < 50; i++)
            SendOne(choice, wire, 0.5);
        choice.Sent(choice.Next(Frame, again: false), Frame, Frame / 2, 0.02, 0.002);
        for (int i = 0; i < 20; i++)
            Assert.NotEqual(Packing.None, SendOne(choice, wire, 0.5));
    }

    [Fact]
    public void Where_the_processors_are_what_the_wire_waits_for_nothing_is_tried()
    {
        var choice = new PackingChoice(Both);
        var wire = new Wire(1.02 / PackingChoice.WideSeconds);
        for (int i = 0; i < 10_000; i++)
            Assert.Equal(Packing.None, SendOne(choice, wire, 0.05));
        var slower = new Wire(0.98 / PackingChoice.WideSeconds);
        Assert.Contains(Enumerable.Range(0, 100).Select(_ => SendOne(choice, slower, 0.05)), static how => how != Packing.None);
    }

    [Fact]
    public void On_small_frames_nothing_is_tried()
    {
        var choice = new PackingChoice(Both);
        SendOne(choice, new Wire(2e9), 0.5);
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
        var wire = new Wire(Gigabit / 2);
        var seen = new HashSet<Packing>();
        for (int i = 0; i < 500; i++)
            seen.Add(SendOne(choice, wire, 0.4));
        Assert.Equal([Packing.None, Packing.Zstd], seen.Order());
    }

    /// <summary>A wire that carries one frame while the next is packed.</summary>
    /// <param name="bytesPerSecond">Of one sender's share of it.</param>
    private sealed class Wire(double bytesPerSecond)
    {
        private double _free; // when it will have carried what it has

        internal double Now { get; private set; }

        internal double PackSeconds { get; private set; }

        /// <param name="how">As the choice says.</param>
        /// <param name="share">What LZ4 leaves of the pages; Zstandard leaves eight tenths of that, and takes twice the time.</param>
        internal (double Pack, double Send, long Bytes) Send(Packing how, double share)
        {
            var (pack, left) = how switch
            {
                Packing.Lz4 => (Frame / 600e6, share),
                Packing.Zstd => (Frame / 300e6, share * 0.8),
                _ => (0, 1),
            };
            double wait = Math.Max(0, _free - Now - pack);
            Now += pack + wait;
            PackSeconds += pack;
            _free = Now + (Frame * left / bytesPerSecond);
            return (pack, wait, (long)(Frame * left));
        }
    }

    /// <summary>A frame as the choice says. Returns what it said.</summary>
    private static Packing SendOne(PackingChoice choice, Wire wire, double share)
    {
        var how = choice.Next(Frame, again: false);
        var (pack, send, bytes) = wire.Send(how, share);
        choice.Sent(how, Frame, bytes, pack, send);
        return how;
    }
}
