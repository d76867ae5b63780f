using System.Diagnostics.Metrics;
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Machines;
using Fabric.Unit.Actors;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>The balloon's actor on one thread and a manual clock, beside a guest that follows, needs its memory, hangs or goes away. Proven by the orders that reached the guest.</summary>
public sealed class BalloonActorTests : IDisposable
{
    private const long Full = 256 * ByteSize.Mebi;
    private const long Free = 170 * ByteSize.Mebi;
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = Full, Kernel = "/k", Accelerator = Accelerator.Tcg };

    private readonly Meter _meter = new("test");
    private readonly ActorBench _bench = new();
    private readonly FakeBalloon _guest;
    private readonly IMachine _machine;
    private readonly IActorRef<BalloonMessage> _actor;

    public BalloonActorTests()
    {
        // A report a second, as QEMU asks for them.
        _guest = new FakeBalloon(Full, Free, () => DateTimeOffset.FromUnixTimeSeconds(_bench.Time.GetUtcNow().ToUnixTimeSeconds()));
        _machine = NewMachine(_guest);
        _actor = _bench.System.Spawn<BalloonMessage>("balloon", () => new BalloonActor(new BalloonMetrics(_meter), new Random(1), NullLogger.Instance));
        _actor.TryTell(new MachineAttached(_machine));
        Pass(1);
    }

    public void Dispose() => _meter.Dispose();

    [Fact]
    public void What_is_free_is_taken_before_the_push_and_all_of_it_given_back()
    {
        Assert.True(Ask<bool>(reply => new MayTake(_machine, reply)).Result);
        var taken = Ask<long>(reply => new TakeFree(_machine, reply));
        Pass(BalloonActor.TakeLimit.TotalSeconds);
        Assert.InRange(taken.Result, (long)(Free * 0.95), Free);
        Assert.Equal(Full - taken.Result, _guest.Actual);
        int orders = _guest.Orders.Count;
        Pass(60);
        Assert.Equal(orders, _guest.Orders.Count);
        Assert.True(Ask<bool>(reply => new GiveBack(_machine, Full, reply)).Result);
        Assert.Equal(Full, _guest.Actual);
        Pass(60);
        Assert.Equal(orders + 1, _guest.Orders.Count);
    }

    [Fact]
    public void A_guest_that_needs_its_memory_while_it_is_held_gets_it_at_the_next_look()
    {
        Take();
        _guest.WouldBeFree = Full - _guest.Actual;
        Pass(1.5);
        Assert.Equal(Full, _guest.Orders[^1]);
        _guest.WouldBeFree = Free;
        int orders = _guest.Orders.Count;
        Pass(60);
        Assert.Equal(orders, _guest.Orders.Count);
    }

    [Fact]
    public void A_guest_that_took_pages_back_by_itself_gets_the_rest_without_waiting_for_a_report()
    {
        Take();
        _guest.Speaks = false;
        _guest.Actual += 3 * ByteSize.Mebi;
        Pass(0.6);
        Assert.Equal(Full, _guest.Orders[^1]);
    }

    [Fact]
    public void An_order_under_pressure_that_does_not_arrive_is_given_again()
    {
        Take();
        _guest.Refuses = true;
        _guest.WouldBeFree = Full - _guest.Actual;
        Pass(3);
        Assert.NotEqual(Full, _guest.Orders[^1]);
        _guest.Refuses = false;
        Pass(1.5);
        Assert.Equal(Full, _guest.Orders[^1]);
    }

    [Fact]
    public void A_hypervisor_that_hangs_holds_up_the_push_no_longer_than_the_limit_and_what_follows_by_its_deadline()
    {
        var taken = Ask<long>(reply => new TakeFree(_machine, reply));
        Assert.NotEmpty(_guest.Orders);
        _guest.Hangs = true;
        Pass(BalloonActor.TakeLimit.TotalSeconds + 2);
        Assert.True(taken.Result > 0);
        var back = Ask<bool>(reply => new GiveBack(_machine, Full, reply));
        Pass(3);
        Assert.NotNull(back.Error);
        _guest.Hangs = false;
        Assert.True(Ask<bool>(reply => new GiveBack(_machine, Full, reply)).Result);
        Assert.Equal(Full, _guest.Actual);
    }

    [Fact]
    public void A_machine_that_goes_away_in_the_middle_is_not_spoken_to_any_more()
    {
        var taken = Ask<long>(reply => new TakeFree(_machine, reply));
        _actor.TryTell(new MachineDetached());
        Pass(0);
        Assert.True(taken.Answered);
        int orders = _guest.Orders.Count;
        int queries = _guest.Queries;
        Pass(60);
        Assert.Equal((orders, queries), (_guest.Orders.Count, _guest.Queries));
    }

    [Fact]
    public void Giving_back_ends_the_taking_and_its_order_is_the_last()
    {
        var taken = Ask<long>(reply => new TakeFree(_machine, reply));
        var back = Ask<bool>(reply => new GiveBack(_machine, Full, reply));
        Assert.True(taken.Answered && back.Result);
        Pass(60);
        Assert.Equal(Full, _guest.Orders[^1]);
        Assert.True(Ask<bool>(reply => new MayTake(_machine, reply)).Result);
    }

    [Theory]
    [InlineData("no promise")]
    [InlineData("not empty")]
    [InlineData("silent")]
    [InlineData("set by hand")]
    [InlineData("another machine")]
    [InlineData("in use")]
    public void A_guest_that_may_not_be_ballooned_is_left_alone(string why)
    {
        _guest.Promises = why != "no promise";
        _guest.Speaks = why != "silent";
        if (why == "not empty")
            _guest.Actual -= 2 * ByteSize.Mebi;
        if (why == "set by hand")
            Assert.True(Ask<bool>(reply => new SetTarget(_machine, Full - (2 * ByteSize.Mebi), reply)).Result);
        if (why == "in use")
            Take();
        Pass(11);
        var machine = why == "another machine" ? NewMachine(_guest) : _machine;
        var may = Ask<bool>(reply => new MayTake(machine, reply));
        Assert.True(may.Answered);
        Assert.False(may.Result);
    }

    private static IMachine NewMachine(FakeBalloon guest) => new FakeFactory("here", new RunObserver()) { NewBalloon = _ => guest }.Create(Spec, MachineBirth.Boot);

    [Fact]
    public void A_guest_that_has_just_come_to_its_senses_is_seen_as_it_is_now()
    {
        _guest.Promises = false;
        Pass(11);
        Assert.False(Ask<bool>(reply => new MayTake(_machine, reply)).Result);
        _guest.Promises = true;
        Assert.True(Ask<bool>(reply => new MayTake(_machine, reply)).Result);
    }

    [Fact]
    public void A_guest_that_cannot_be_looked_at_is_answered_for_within_the_deadline()
    {
        _guest.Hangs = true;
        var may = Ask<bool>(reply => new MayTake(_machine, reply));
        Assert.False(may.Answered);
        Pass(2);
        Assert.True(may.Answered);
        Assert.False(may.Result);
        var gone = Ask<bool>(reply => new MayTake(_machine, reply));
        _actor.TryTell(new MachineDetached());
        Pass(0);
        Assert.True(gone.Answered);
        Assert.False(gone.Result);
    }

    private void Take()
    {
        Ask<long>(reply => new TakeFree(_machine, reply));
        Pass(BalloonActor.TakeLimit.TotalSeconds);
        Assert.True(Full - _guest.Actual > Free / 2);
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
