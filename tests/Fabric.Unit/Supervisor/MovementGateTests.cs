using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Unit.Migration;
using Xunit;

namespace Fabric.Unit.Supervisor;

/// <summary>Who may begin beside what runs and what is being asked for. The counts are kept as migrations come and go; a drawn sequence compares them with counting anew.</summary>
public sealed class MovementGateTests
{
    private static readonly HostName A = HostName.Parse("a");
    private static readonly HostName B = HostName.Parse("b");
    private static readonly HostName C = HostName.Parse("c");
    private static readonly Movement Ab = new(A, B);
    private static readonly Movement Ac = new(A, C);
    private static readonly Movement Cb = new(C, B);

    private readonly Board _board = new(TimeProvider.System, TimeSpan.Zero);
    private int _names;

    [Fact]
    public void Limits_hold_per_source_destination_and_link()
    {
        Assert.Equal([0, 1], Admitted([Ab, Ab, Ab, Ac], new BatchLimits(2, 2, 2)));
        Assert.Equal([0, 2], Admitted([Ab, Ab, Ac, Ac], new BatchLimits(4, 4, 1)));
        Assert.Equal([0], Admitted([Ab, Cb], new BatchLimits(4, 1, 4)));
        Run(Ac);
        Run(Ac);
        Assert.Empty(Admitted([Ab], new BatchLimits(2, 2, 2)));
    }

    [Fact]
    public void A_migration_that_runs_is_not_counted_beside_its_own_reservation()
    {
        var gate = new MovementGate(_board);
        var name = VmName.Parse("v");
        using var reserved = gate.TryReserve(name, Ab, new BatchLimits(2, 2, 2));
        Run(Ab, name);
        Assert.NotNull(gate.TryReserve(VmName.Parse("w"), Ab, new BatchLimits(2, 2, 2)));
        Assert.Null(gate.TryReserve(VmName.Parse("x"), Ab, new BatchLimits(2, 2, 2)));
    }

    [Fact]
    public void Room_is_said_once_when_a_migration_ends_and_never_by_whoever_gives_a_place_back()
    {
        int said = 0;
        using var subscription = _board.Subscribe(Board.RoomTopic, () => said++);
        var planned = Run(Ab);
        Assert.Equal(0, said);
        _board.Publish(End(planned));
        _board.Publish(End(planned));
        Assert.Equal(1, said);
        new MovementGate(_board).TryReserve(VmName.Parse("v"), Ab, BatchLimits.Default)!.Dispose();
        Assert.Equal(1, said); // who asked would hear it and ask again at once
    }

    [Fact]
    public void Counts_kept_are_counts_made()
    {
        const int Seed = 7;
        var random = new Random(Seed);
        var running = new List<Planned>();
        for (int i = 0; i < 2000; i++)
        {
            if (running.Count == 0 || random.Next(2) == 0)
            {
                running.Add(Run(new[] { Ab, Ac, Cb }[random.Next(3)]));
            }
            else
            {
                int at = random.Next(running.Count);
                _board.Publish(End(running[at]));
                running.RemoveAt(at);
            }

            var (from, to, link) = _board.Traffic.Count(Ab);
            Assert.Equal(running.Count(static m => m.Plan.Source == A), from);
            Assert.Equal(running.Count(static m => m.Plan.Destination == B), to);
            Assert.Equal(running.Count(static m => m.Plan.Source == A && m.Plan.Destination == B), link);
        }
    }

    private List<int> Admitted(Movement[] waiting, BatchLimits limits)
    {
        var gate = new MovementGate(_board);
        var reserved = waiting.Select(move => gate.TryReserve(VmName.Parse($"v{++_names}"), move, limits)).ToList();
        return [.. reserved.Index().Where(static r => r.Item is not null).Select(static r => r.Index)];
    }

    private Planned Run(Movement movement, VmName? name = null)
    {
        int number = ++_names;
        var plan = Samples.Plan with
        {
            Id = MigrationId.New(TimeProvider.System, new Random(number)),
            Spec = Samples.Plan.Spec with { Name = name ?? VmName.Parse($"v{number}") },
            Source = movement.Source,
            Destination = movement.Destination,
        };
        var planned = new Planned(plan, plan.PlannedAt);
        _board.Publish(planned);
        return planned;
    }

    private static Completed End(Planned planned) => new(planned.Plan, planned.Since, Samples.Outcome);
}
