using Fabric.Benchmarks.Compare;
using Fabric.Core;
using Xunit;

namespace Fabric.Integration.Comparing;

/// <summary>The judge of a comparison. Claim: each bar is drawn where it belongs, and a figure on its wrong side is not met. Proof: moves with made-up figures on either side of every bar.</summary>
public sealed class BarsTests
{
    private static readonly MoveLink Gigabit = MoveLink.Parse("1gbit");

    [Theory]
    [InlineData("loopback", LoadKind.WriteHeavy, 79, true)]
    [InlineData("loopback", LoadKind.WriteHeavy, 81, false)]
    [InlineData("1gbit", LoadKind.WriteHeavy, 89, true)]
    [InlineData("1gbit", LoadKind.WriteHeavy, 91, false)]
    [InlineData("1gbit", LoadKind.Idle, 99, true)]
    [InlineData("1gbit", LoadKind.ReadHeavy, 101, false)]
    public void The_total_is_measured_against_QEMUs_best_setting(string link, LoadKind load, double total, bool met)
    {
        var cell = Cell(MoveLink.Parse(link), load, Move(Bars.Own, total: total), Move("qemu", total: 300), Move("qemu-best", total: 100));
        Assert.Equal(met, Of(cell, "pre-copy: total time").Met);
        Assert.Contains("qemu-best", Of(cell, "pre-copy: total time").Figure, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(MoveMode.PreCopy, 24, 100, true)]
    [InlineData(MoveMode.PreCopy, 26, 100, false)]
    [InlineData(MoveMode.PostCopy, 9, 4.5, true)]
    [InlineData(MoveMode.PostCopy, 9, 3.5, false)]
    public void The_downtime_is_measured_against_QEMUs_defaults(MoveMode mode, double own, double defaults, bool met) => Assert.Equal(
        met,
        Of(Cell(Gigabit, LoadKind.WriteHeavy, Move(Bars.Own, mode, downtime: own), Move("qemu", mode, downtime: defaults), Move("qemu-best", mode, downtime: 1)), $"{CompareOptions.NameOf(mode)}: downtime").Met);

    [Fact]
    public void A_setting_of_QEMU_that_never_ends_is_beaten_by_any_move_that_does()
    {
        var endless = MoveResult.Endless("qemu", MoveMode.PreCopy, TimeSpan.FromSeconds(30));
        Assert.True(Of(Cell(Gigabit, LoadKind.WriteHeavy, Move(Bars.Own, total: 20_000), endless), "pre-copy: total time").Met);
        Assert.False(Of(Cell(Gigabit, LoadKind.WriteHeavy, endless with { Mover = Bars.Own }, endless), "pre-copy: total time").Met);
        Assert.Null(Of(Cell(Gigabit, LoadKind.WriteHeavy, Move(Bars.Own), endless), "pre-copy: downtime").Met);
    }

    [Theory]
    [InlineData(8, true)]
    [InlineData(20, false)]
    public void Lost_work_is_measured_against_a_guest_that_kept_its_memory(double more, bool met)
    {
        var broken = Move("qemu-best", total: 50, lost: 9000).After(new WorkLost(9000, 1), clean: false);
        Assert.Equal(met, Of(Cell(Gigabit, LoadKind.WriteHeavy, Move(Bars.Own, lost: 100 + (2 * more)), Move("qemu", lost: 100), broken), "pre-copy: work that the guest lost").Met);
    }

    [Theory]
    [InlineData(129, true)]
    [InlineData(131, false)]
    public void Auto_is_measured_against_one_copy_of_what_the_guest_holds(double percent, bool met)
    {
        double copyMs = 1000.0 * 100 * ByteSize.Mebi / 125_000_000;
        var cell = Cell(Gigabit, LoadKind.WriteHeavy, Move(Bars.Own, MoveMode.Auto, total: copyMs * percent / 100), Move(Bars.Own, MoveMode.PostCopy, wire: 100 * ByteSize.Mebi));
        Assert.Equal(met, Of(cell, "auto: total time").Met);
        Assert.DoesNotContain(Bars.Of(cell with { Load = cell.Load with { Rate = 5000 } }), static v => v.Bar == "auto: total time");
    }

    private static Verdict Of(Cell cell, string bar) => Bars.Of(cell).First(v => v.Bar == bar);

    private static Cell Cell(MoveLink link, LoadKind load, params MoveResult[] moves) =>
        new(link, new GuestLoad(load, 256 * ByteSize.Mebi, 136, Rate: 0), TimeSpan.FromSeconds(30), "", [.. moves]);

    private static MoveResult Move(string mover, MoveMode mode = MoveMode.PreCopy, double total = 100, double downtime = 10, double lost = 0, long wire = 1) =>
        new(mover, mode, total, downtime, downtime, downtime, 1, lost, wire, 1, true, GuestClean: true);
}
