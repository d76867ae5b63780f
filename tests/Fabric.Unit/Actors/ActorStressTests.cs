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
    /// A lost wake-up needs a message that arrives just as a turn ends. The sender spins until its last message was handled and sends the next
    /// one at that moment, after a pause that differs by a few instructions each time, so that every round races with the end of the
    /// turn before it. A lost one would leave the actor asleep for ever. (With the look at the queues after the exchange taken out,
    /// this fails within the first hundred rounds.)
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(64)]
    public async Task No_wake_up_is_lost_when_messages_race_with_the_end_of_a_turn(int throughput)
    {
        await using var system = NewSystem();
        long handled = 0;
        var actor = system.Spawn("a", () => new ScriptedActor([])
        {
            OnMessage = _ =>
            {
                Volatile.Write(ref handled, handled + 1);
                return ValueTask.CompletedTask;
            },
        }, new ActorOptions { Throughput = throughput });
        for (int round = 1; round <= 20_000; round++)
        {
            long begun = TimeProvider.System.GetTimestamp();
            Assert.True(actor.TryTell("next"));
            for (int spin = 0; Volatile.Read(ref handled) != round; spin++)
            {
                if ((spin & 0xfff) == 0xfff)
                {
                    Thread.Yield();
                    Assert.True(TimeProvider.System.GetElapsedTime(begun) < Deadline, $"A wake-up was lost in round {round}.");
                }
            }

            Thread.SpinWait(round % 13);
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
