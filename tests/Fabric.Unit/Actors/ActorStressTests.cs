using Fabric.Actors;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Actors;

/// <summary>On the real thread pool: nothing is lost, nothing runs twice at once, everything ends.</summary>
public sealed class ActorStressTests
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

    private static ActorSystem NewSystem() =>
        new(TimeProvider.System, new Random(1), new ThreadPoolDispatcher(), NullLoggerFactory.Instance);

    [Fact]
    public async Task Thousands_of_actors_handle_every_message_once_and_one_at_a_time()
    {
        const int Actors = 4000;
        const int Hops = 50;
        await using var system = NewSystem();
        using var done = new CountdownEvent(Actors);
        var actors = new IActorRef<object>[Actors];
        long handled = 0;
        int overlaps = 0;
        for (int i = 0; i < Actors; i++)
        {
            int self = i;
            actors[i] = system.Spawn($"a{i}", () =>
            {
                int inside = 0;
                return new ScriptedActor([])
                {
                    OnMessage = async message =>
                    {
                        if (Interlocked.Increment(ref inside) != 1)
                            Interlocked.Increment(ref overlaps);
                        Interlocked.Increment(ref handled);
                        int left = (int)message;
                        if (left % 8 == 0)
                            await Task.Yield();
                        if (left == 0)
                            done.Signal();
                        else if (!actors[(self * 31 + left) % Actors].TryTell(left - 1))
                            throw new InvalidOperationException("A mailbox was full.");
                        Interlocked.Decrement(ref inside);
                    },
                };
            }, new ActorOptions { MailboxCapacity = Actors });
        }

        foreach (var actor in actors)
            Assert.True(actor.TryTell(Hops));
        Assert.True(done.Wait(Deadline), $"Messages were lost: {done.CurrentCount} chains did not end.");
        Assert.Equal((long)Actors * (Hops + 1), Interlocked.Read(ref handled));
        Assert.Equal(0, overlaps);
        await system.StopAsync(Deadline);
        Assert.All(actors, actor => Assert.True(actor.Terminated.IsCompletedSuccessfully));
    }

    /// <summary>
    /// A lost wake-up needs a message that arrives just as a turn ends. Two threads send one message each, so that many of the turns are
    /// one message long, over and over with a different small delay; a lost one would leave the actor asleep for ever.
    /// </summary>
    [Fact]
    public async Task No_wake_up_is_lost_when_messages_race_with_the_end_of_a_turn()
    {
        await using var system = NewSystem();
        using var seen = new SemaphoreSlim(0);
        var actor = system.Spawn("a", () => new ScriptedActor([])
        {
            OnMessage = _ =>
            {
                seen.Release();
                return ValueTask.CompletedTask;
            },
        }, new ActorOptions { Throughput = 1 });
        for (int seed = 0; seed < 20_000; seed++)
        {
            int spin = seed % 97;
            ThreadPool.UnsafeQueueUserWorkItem(_ => actor.TryTell("one"), null);
            Thread.SpinWait(spin);
            Assert.True(actor.TryTell("two"));
            for (int i = 0; i < 2; i++)
                Assert.True(await seen.WaitAsync(Deadline), $"A wake-up was lost in round {seed}.");
        }
    }

    [Fact]
    public async Task Asks_race_with_the_stop_and_none_hangs()
    {
        for (int seed = 0; seed < 300; seed++)
        {
            await using var system = NewSystem();
            var actor = system.Spawn("a", () => new ScriptedActor([])
            {
                OnMessage = message =>
                {
                    ((Question)message).Reply.Succeed(1);
                    return ValueTask.CompletedTask;
                },
            });
            var asks = Enumerable.Range(0, 8).Select(_ => Task.Run(
                () => actor.AskAsync<object, int>(r => new Question(1, r), TimeSpan.FromHours(1), TimeProvider.System))).ToArray();
            Thread.SpinWait(seed * 10);
            await system.StopAsync(Deadline);
            // The deadline of an ask is an hour: one that was forgotten would be found by the shorter one here.
            await ((Task)Task.WhenAll(asks)).ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(Deadline);
            Assert.All(asks, ask => Assert.True(ask.IsCompletedSuccessfully || ask.Exception?.InnerException is Fabric.Core.FabricException));
        }
    }
}
