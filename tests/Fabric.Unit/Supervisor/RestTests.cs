using Fabric.Actors;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Supervisor.Shards;
using Fabric.Supervisor.Vms;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

/// <summary>Entities leave memory when nobody wants them and they have nothing to do, and are read again. Proved on the actors themselves: which one answers, and whether it has ended.</summary>
public sealed class RestTests
{
    private static readonly VmName Web = VmName.Parse("web");
    private static readonly TimeSpan Long = 2 * SupervisorOptions.Default.RestAfter;

    private readonly OneThread _world = new();

    [Fact]
    public void An_idle_ledger_rests_and_is_read_again()
    {
        var shard = ShardWith(new VmCreateIntended(_world.Services.Now, Spec("web"), Alpha, new Epoch(1)), new VmCreated(_world.Services.Now));
        var first = Want(shard);
        first.Dispose();
        Pass(Long);
        Assert.True(first.Entity.Terminated.IsCompletedSuccessfully);

        using var second = Want(shard);
        Assert.NotSame(first.Entity, second.Entity);
        var state = Ask<VmState>(() => second.Entity.AskAsync<VmMessage, VmState>(static reply => new VmLoaded(reply), Long, _world.Time));
        Assert.Equal((VmStatus.Present, Alpha), (state.Status, state.Owner));
    }

    [Fact]
    public void A_ledger_that_somebody_uses_stays()
    {
        var shard = ShardWith(new VmCreateIntended(_world.Services.Now, Spec("web"), Alpha, new Epoch(1)), new VmCreated(_world.Services.Now));
        using (var use = Want(shard))
        {
            Pass(SupervisorOptions.Default.RestAfter * 1.5);
            Assert.False(use.Entity.Terminated.IsCompleted);
        }

        Pass(Long);
        using var next = Want(shard);
        Assert.False(next.Entity.Terminated.IsCompleted);
    }

    /// <summary>The creation's command is on its way to an agent that does not answer.</summary>
    [Fact]
    public void A_ledger_with_something_to_do_stays()
    {
        _world.Show(Alpha);
        var shard = ShardWith(new VmCreateIntended(_world.Services.Now, Spec("web"), Alpha, new Epoch(1)));
        var use = Want(shard);
        use.Dispose();
        Pass(Long);
        Assert.False(use.Entity.Terminated.IsCompleted);
        using var again = Want(shard);
        Assert.Same(use.Entity, again.Entity);
    }

    /// <summary>Between the question and the answer nobody knows whether the entity lives: who wants it then gets the one that lives afterwards.</summary>
    [Fact]
    public async Task Who_wants_an_entity_that_is_asked_to_rest_gets_one_that_lives()
    {
        var family = new EntityFamily<string, object>(_world.Time, Long);
        var (old, anew) = (new Ref(), new Ref());
        var first = Wanted(family, old);
        Assert.Empty(family.Unwanted(TimeSpan.Zero, 1)); // in use
        (await first.Task).Dispose();
        Assert.Same(old, Assert.Single(family.Unwanted(TimeSpan.Zero, 1)).Entity);

        var waiting = Wanted(family, anew);
        Assert.False(waiting.Task.IsCompleted);
        family.Answered("web", rests: true);
        Assert.Same(anew, (await waiting.Task).Entity);

        (await waiting.Task).Dispose();
        family.Unwanted(TimeSpan.Zero, 1);
        var stays = Wanted(family, old);
        family.Answered("web", rests: false);
        Assert.Same(anew, (await stays.Task).Entity);
    }

    [Fact]
    public void An_offer_is_taken_or_withdrawn_and_never_both()
    {
        var taken = new RestOffer();
        Assert.True(taken.Take());
        Assert.False(taken.Withdraw());
        var withdrawn = new RestOffer();
        Assert.True(withdrawn.Withdraw());
        Assert.False(withdrawn.Take());
    }

    private IActorRef<ShardMessage> ShardWith(params VmEvent[] story)
    {
        _world.Append(VmLedger.StreamOf(Web), VmEvents.Catalog, story);
        return _world.Actors.Spawn<ShardMessage>("shard", () => new ShardActor(_world.Services, _world.Tenure, new NoStarter()));
    }

    private EntityUse<VmMessage> Want(IActorRef<ShardMessage> shard) =>
        Ask<EntityUse<VmMessage>>(() => shard.AskAsync<ShardMessage, EntityUse<VmMessage>>(static reply => new VmWanted(Web, reply), Long, _world.Time));

    private T Ask<T>(Func<Task<T>> question)
    {
        T? answer = default;
        _world.Loop.Run(async () => answer = await question(), TimeSpan.FromSeconds(1));
        return answer!;
    }

    private void Pass(TimeSpan time)
    {
        for (var passed = TimeSpan.Zero; passed < time; passed += TimeSpan.FromSeconds(1))
        {
            _world.Time.Advance(TimeSpan.FromSeconds(1));
            _world.Loop.RunUntilIdle();
        }
    }

    private static Reply<EntityUse<object>> Wanted(EntityFamily<string, object> family, Ref made)
    {
        var reply = new Reply<EntityUse<object>>();
        family.Want("web", () => made, reply);
        return reply;
    }

    private sealed class Ref : IActorRef<object>
    {
        public string Path => "/ref";

        public Task Terminated => Task.CompletedTask;

        public bool TryTell(object message) => true;
    }

    private sealed class Reply<T> : IReply<T>
    {
        private readonly TaskCompletionSource<T> _answer = new();

        internal Task<T> Task => _answer.Task;

        public void Succeed(T value) => _answer.SetResult(value);

        public void Fail(FabricError error) => _answer.SetException(new FabricException(error));
    }

    private sealed class NoStarter : IMigrationStarter
    {
        public Task<KnownState> StartAsync(VmName vm, HostName destination, MigrationOptions options, Guid requestId, BatchMembership batch, CancellationToken cancellation) =>
            throw new NotSupportedException();

        public Task SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) => throw new NotSupportedException();
    }
}
