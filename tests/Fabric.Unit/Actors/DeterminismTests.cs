using Fabric.Actors;
using Fabric.Actors.Testing;
using Xunit;

namespace Fabric.Unit.Actors;

public sealed class DeterminismTests
{
    /// <summary>Actors that gossip at random, ask, pipe, fail, restart and watch: the order of everything depends on the dispatcher alone.</summary>
    private static (List<string> Trace, ulong Fingerprint, long Steps) Play(int seed)
    {
        var bench = new ActorBench(seed);
        var random = new Random(seed);
        var actors = new List<IActorRef<object>>();
        for (int i = 0; i < 8; i++)
        {
            int self = i;
            actors.Add(bench.Spawn($"a{i}", a => a.OnMessage = async message =>
            {
                a.Note($"{self}:{(message is Question q ? q.Value : message)}@{bench.Time.Elapsed.TotalMilliseconds}");
                if (message is Question question)
                {
                    question.Reply.Succeed(question.Value + 1);
                    return;
                }

                int left = (int)message;
                if (left == 0)
                    return;
                await Task.Delay(TimeSpan.FromMilliseconds(random.Next(3)), a.Me.Time, a.Me.Stopping);
                int other = random.Next(actors.Count);
                if (other != self && left % 3 == 0)
                {
                    int answer = await actors[other].AskAsync<object, int>(r => new Question(left, r), TimeSpan.FromSeconds(1), a.Me.Time, a.Me.Stopping);
                    a.Note($"{self}<{answer}");
                }

                actors[random.Next(actors.Count)].TryTell(left - 1);
                a.Me.PipeToSelf(_ => Task.FromResult(left / 2), value => value, _ => 0);
                if (left % 7 == 0)
                    throw new InvalidOperationException("planted");
            }, new ActorOptions { MaxRestarts = 100 }));
        }

        for (int i = 0; i < actors.Count; i++)
            actors[i].TryTell(10 + i);
        bench.Dispatcher.RunFor(TimeSpan.FromMinutes(5));
        return (bench.Trace, bench.Dispatcher.Fingerprint, bench.Dispatcher.Steps);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(77)]
    public void The_same_seed_gives_the_same_trace(int seed)
    {
        var first = Play(seed);
        var second = Play(seed);
        Assert.True(first.Trace.Count > 100, $"The system hardly moved: {first.Trace.Count} entries.");
        Assert.Equal(first.Trace, second.Trace);
        Assert.Equal(first.Fingerprint, second.Fingerprint);
        Assert.Equal(first.Steps, second.Steps);
    }

    [Fact]
    public void Different_seeds_give_different_orders() => Assert.NotEqual(Play(1).Trace, Play(2).Trace);

    [Fact]
    public void Work_that_comes_back_from_another_thread_fails_the_run()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a");
        bench.Dispatcher.RunUntilIdle();
        var stranger = new Thread(() => actor.TryTell("from outside"));
        stranger.Start();
        Assert.True(stranger.Join(TimeSpan.FromSeconds(30)));
        var failure = Assert.Throws<InvalidOperationException>(bench.Dispatcher.RunUntilIdle);
        Assert.Contains("another thread", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_scenario_that_nothing_can_wake_is_said_to_hang()
    {
        var bench = new ActorBench();
        Assert.Throws<TimeoutException>(() => bench.Dispatcher.Run(() => new TaskCompletionSource().Task, TimeSpan.FromHours(1)));
    }

    [Fact]
    public async Task The_clock_fires_timers_in_the_order_of_their_due_times()
    {
        var time = new ManualTime();
        var fired = new List<string>();
        void Arm(string name, int due, int period = -1) => time.CreateTimer(
            _ => fired.Add($"{name}@{time.Elapsed.TotalSeconds}"), null, TimeSpan.FromSeconds(due), period < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(period));
        Arm("late", 5);
        Arm("every", 2, 2);
        Arm("first of two", 3);
        Arm("second of two", 3);
        time.CreateTimer(_ => fired.Add("changed away"), null, TimeSpan.FromSeconds(1), Timeout.InfiniteTimeSpan)
            .Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        await time.AdvanceAsync(TimeSpan.FromSeconds(5));
        Assert.Equal(["every@2", "first of two@3", "second of two@3", "every@4", "late@5"], fired);
        var before = time.GetTimestamp();
        time.JumpWallClock(TimeSpan.FromHours(-1));
        Assert.Equal(before, time.GetTimestamp());
        Assert.Equal(new DateTimeOffset(2025, 12, 31, 23, 0, 5, TimeSpan.Zero), time.GetUtcNow());
    }
}
