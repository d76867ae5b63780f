using System.Diagnostics.Metrics;
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Machines;
using Fabric.Unit.Actors;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>A VM's own balloon loop on one thread and a manual clock. Proven by the orders that reached the guest and by when it was looked at.</summary>
public sealed class BalloonOwnLoopTests : IDisposable
{
    private const long Full = 256 * ByteSize.Mebi;
    private const long Free = 170 * ByteSize.Mebi;
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = Full, Kernel = "/k", Accelerator = Accelerator.Tcg, Balloon = new BalloonSpec() };

    private readonly Meter _meter = new("test-own-" + Guid.NewGuid());
    private readonly ActorBench _bench = new();
    private readonly FakeBalloon _guest;
    private readonly IMachine _machine;
    private readonly IActorRef<BalloonMessage> _actor;

    public BalloonOwnLoopTests()
    {
        _guest = NewGuest();
        _machine = NewMachine(_guest);
        _actor = Spawn("balloon", 1);
        _actor.TryTell(new MachineAttached(_machine));
        Pass(20);
    }

    public void Dispose() => _meter.Dispose();

    [Fact]
    public void Nothing_is_looked_at_before_the_first_word_and_after_the_last()
    {
        Assert.Equal(0, _guest.Queries);
        Keep();
        Assert.InRange(Full - _guest.Actual, (long)(Free * 0.93), Free);
        Direct(BalloonDuty.Rest);
        var seen = (_guest.Queries, _guest.Orders.Count);
        Pass(600);
        Assert.Equal(seen, (_guest.Queries, _guest.Orders.Count));
    }

    [Fact]
    public void A_guest_is_looked_at_once_an_interval()
    {
        Keep();
        int before = _guest.Queries;
        Pass(500);
        Assert.InRange(_guest.Queries - before, 95, 105);
    }

    [Fact]
    public void While_memory_is_moved_nothing_is_taken_and_all_is_given_back_under_pressure()
    {
        Direct(BalloonDuty.Watch);
        Pass(60);
        Assert.Empty(_guest.Orders);
        Keep();
        Direct(BalloonDuty.Watch);
        Assert.NotEqual(Full, _guest.Actual);
        _guest.WouldBeFree = Full - _guest.Actual;
        Pass(2);
        Assert.Equal(Full, _guest.Actual);
        _guest.WouldBeFree = Free;
        Direct(BalloonDuty.Keep);
        Pass(45);
        Assert.Equal(Full, _guest.Orders[^1]); // the hold-off is not over because a migration is
        Pass(60);
        Assert.NotEqual(Full, _guest.Orders[^1]);
    }

    /// <summary>The order of the two messages is nobody's to choose: one comes from the VM's actor, the other from its question.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_migration_takes_what_the_loop_has_not_and_the_loop_goes_on_with_it(bool watchFirst)
    {
        Direct(BalloonDuty.Keep);
        Pass(6); // one look: a fifth is still there
        Assert.True(Ask<bool>(reply => new MayTake(_machine, reply)).Result);
        if (watchFirst)
            Direct(BalloonDuty.Watch);
        var taken = Ask<long>(reply => new TakeFree(_machine, reply));
        if (!watchFirst)
            Direct(BalloonDuty.Watch);
        Pass(BalloonActor.TakeLimit.TotalSeconds);
        Assert.InRange(taken.Result, (long)(Free * 0.93), Free);
        Pass(60);
        Direct(BalloonDuty.Keep);
        Pass(600);
        Assert.Equal(Full - taken.Result, _guest.Actual);
        Assert.DoesNotContain(Full, _guest.Orders);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_push_that_waits_is_answered_when_the_loop_is_told_otherwise(bool keep)
    {
        Direct(BalloonDuty.Watch);
        var taken = Ask<long>(reply => new TakeFree(_machine, reply));
        Direct(keep ? BalloonDuty.Keep : BalloonDuty.Rest);
        Assert.True(taken.Answered);
    }

    [Fact]
    public void A_guest_without_the_promise_is_never_asked_for_anything()
    {
        _guest.Promises = false;
        Keep();
        Assert.False(Ask<bool>(reply => new MayTake(_machine, reply)).Result);
        Assert.Empty(_guest.Orders);
    }

    [Fact]
    public void A_hypervisor_that_hangs_does_not_end_the_loop()
    {
        _guest.Hangs = true;
        Keep();
        _guest.Hangs = false;
        Pass(60);
        Assert.NotEqual(Full, _guest.Actual);
    }

    [Fact]
    public void Another_machine_begins_anew_and_the_gauge_counts_what_is_held_now()
    {
        long held = 0;
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, to) =>
        {
            if (ReferenceEquals(instrument.Meter, _meter) && instrument.Name == "fabric_balloon_held_bytes")
                to.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<long>((_, more, _, _) => held += more);
        listener.Start();
        Keep();
        Assert.Equal(Full - _guest.Target, held);
        var next = NewGuest();
        _actor.TryTell(new MachineAttached(NewMachine(next)));
        Pass(60);
        Assert.Equal((0, 0), (held, next.Queries));
    }

    [Fact]
    public void A_word_about_a_machine_that_has_gone_is_not_heard()
    {
        _actor.TryTell(new Direct(NewMachine(_guest), BalloonDuty.Keep));
        Pass(60);
        Assert.Equal(0, _guest.Queries);
    }

    /// <summary>As when an agent starts and finds a hundred VMs: all loops are let go in one moment.</summary>
    [Fact]
    public void A_hundred_loops_do_not_look_together()
    {
        var looks = new List<double>();
        for (int i = 0; i < 100; i++)
        {
            var guest = new FakeBalloon(Full, Free, () =>
            {
                looks.Add(_bench.Time.GetUtcNow().ToUnixTimeMilliseconds() / 1000.0);
                return _bench.Time.GetUtcNow();
            });
            var machine = NewMachine(guest);
            var actor = Spawn($"balloon-{i}", i + 2);
            actor.TryTell(new MachineAttached(machine));
            actor.TryTell(new Direct(machine, BalloonDuty.Keep));
        }

        Pass(120);
        // Twenty a second on average.
        var busiest = looks.GroupBy(Math.Floor).Max(static g => g.Count());
        Assert.InRange(looks.Count, 2300, 2500);
        Assert.InRange(busiest, 21, 45);
    }

    private FakeBalloon NewGuest() => new(Full, Free, () => DateTimeOffset.FromUnixTimeSeconds(_bench.Time.GetUtcNow().ToUnixTimeSeconds()));

    private static IMachine NewMachine(FakeBalloon guest) => new FakeFactory("here", new RunObserver()) { NewBalloon = _ => guest }.Create(Spec, MachineBirth.Boot);

    private IActorRef<BalloonMessage> Spawn(string name, int seed) =>
        _bench.System.Spawn<BalloonMessage>(name, () => new BalloonActor(new BalloonMetrics(_meter), new Random(seed), NullLogger.Instance));

    private void Keep()
    {
        Direct(BalloonDuty.Keep);
        Pass(60);
    }

    private void Direct(BalloonDuty duty)
    {
        Assert.True(_actor.TryTell(new Direct(_machine, duty)));
        _bench.Dispatcher.RunUntilIdle();
    }

    private void Pass(double seconds) => _bench.Dispatcher.RunFor(TimeSpan.FromSeconds(seconds));

    private HeardReply<T> Ask<T>(Func<IReply<T>, BalloonMessage> message)
    {
        var reply = new HeardReply<T>();
        Assert.True(_actor.TryTell(message(reply)));
        _bench.Dispatcher.RunUntilIdle();
        return reply;
    }
}
