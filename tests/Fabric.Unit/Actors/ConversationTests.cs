using Fabric.Actors;
using Fabric.Core;
using Xunit;

namespace Fabric.Unit.Actors;

/// <summary>Watch, ask, timers and piped work.</summary>
public sealed class ConversationTests
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    [Fact]
    public void A_watch_tells_of_the_end_also_when_it_was_before()
    {
        var bench = new ActorBench();
        var watched = bench.Spawn("watched");
        bench.Spawn("early", a => a.OnStarted = () =>
        {
            a.Me.Watch(watched, "early saw it");
            return ValueTask.CompletedTask;
        });
        bench.Dispatcher.RunUntilIdle();
        Assert.Empty(bench.Trace);
        _ = bench.System.StopAsync(watched, Second);
        bench.Dispatcher.RunUntilIdle();
        bench.Spawn("late", a => a.OnStarted = () =>
        {
            a.Me.Watch(watched, "late saw it");
            return ValueTask.CompletedTask;
        });
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(["early saw it", "late saw it"], bench.Trace);
    }

    [Fact]
    public void A_notice_comes_when_the_name_is_free_and_through_a_full_mailbox()
    {
        var bench = new ActorBench();
        int children = 0;
        IActorRef<object>? child = null;
        var gate = new TaskCompletionSource();
        var parent = bench.Spawn("parent", a =>
        {
            void SpawnChild()
            {
                children++;
                child = a.Me.Spawn("child", bench.Script(c => c.OnMessage = _ =>
                {
                    c.Me.Stop();
                    return ValueTask.CompletedTask;
                }));
                a.Me.Watch(child, "gone");
            }

            a.OnStarted = () =>
            {
                SpawnChild();
                return ValueTask.CompletedTask;
            };
            a.OnMessage = async message =>
            {
                if (Equals(message, "wait"))
                    await gate.Task;
                if (Equals(message, "gone"))
                    SpawnChild();
                a.Note($"{message}");
            };
        }, new ActorOptions { MailboxCapacity = 1 });
        bench.Dispatcher.RunUntilIdle();
        parent.TryTell("wait");
        bench.Dispatcher.RunUntilIdle();
        Assert.True(parent.TryTell("fills it"));
        Assert.False(parent.TryTell("one too many"));
        child!.TryTell("stop");
        bench.Dispatcher.RunUntilIdle();
        gate.SetResult();
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(["wait", "gone", "fills it"], bench.Trace);
        Assert.Equal(2, children);
    }

    [Fact]
    public void An_ask_is_answered()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", a => a.OnMessage = async message =>
        {
            var question = (Question)message;
            await Task.Yield();
            question.Reply.Succeed(question.Value * 2);
            question.Reply.Fail(new FabricError(ErrorCodes.Internal, "a second answer is ignored"));
        });
        bench.Dispatcher.Run(
            async () =>
            {
                Assert.Equal(42, await actor.AskAsync<object, int>(reply => new Question(21, reply), Second, bench.Time));
                Assert.Equal(TimeSpan.Zero, bench.Time.Elapsed);
            },
            TimeSpan.FromMinutes(1));
        Assert.Null(bench.Time.NextDue);
    }

    [Fact]
    public void An_ask_without_an_answer_fails_at_its_deadline()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", a => a.OnMessage = _ => ValueTask.CompletedTask);
        bench.Dispatcher.Run(
            async () =>
            {
                var error = await Assert.ThrowsAsync<FabricException>(() => actor.AskAsync<object, int>(r => new Question(1, r), Second, bench.Time));
                Assert.Equal(ErrorCodes.DeadlineExceeded, error.Error.Code);
                Assert.Equal(Second, bench.Time.Elapsed);
            },
            TimeSpan.FromMinutes(1));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_ask_fails_at_once_when_the_actor_stops_before_it_answers(bool handled)
    {
        var bench = new ActorBench();
        var gate = new TaskCompletionSource();
        var actor = bench.Spawn("a", a => a.OnMessage = message => message is Question ? ValueTask.CompletedTask : new ValueTask(gate.Task));
        if (!handled)
            actor.TryTell("block");
        var ask = actor.AskAsync<object, int>(r => new Question(1, r), TimeSpan.FromHours(1), bench.Time);
        bench.Dispatcher.RunUntilIdle();
        Assert.False(ask.IsCompleted);
        _ = bench.System.StopAsync(actor, TimeSpan.FromHours(1));
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(ErrorCodes.Unreachable, Assert.IsType<FabricException>(ask.Exception?.InnerException).Error.Code);
        gate.SetResult();
        bench.Dispatcher.RunUntilIdle();
        Assert.Null(bench.Time.NextDue);
    }

    [Fact]
    public void An_ask_of_a_full_or_stopped_actor_is_unreachable()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", options: new ActorOptions { MailboxCapacity = 1 });
        actor.TryTell("fills it");
        var full = actor.AskAsync<object, int>(r => new Question(1, r), Second, bench.Time);
        Assert.Equal(ErrorCodes.Unreachable, Assert.IsType<FabricException>(full.Exception?.InnerException).Error.Code);
        _ = bench.System.StopAsync(actor, Second);
        bench.Dispatcher.RunUntilIdle();
        var stopped = actor.AskAsync<object, int>(r => new Question(1, r), Second, bench.Time);
        Assert.Equal(ErrorCodes.Unreachable, Assert.IsType<FabricException>(stopped.Exception?.InnerException).Error.Code);
    }

    [Fact]
    public void An_ask_whose_handler_fails_gets_that_failure()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", a => a.OnMessage = _ => throw new FabricException(ErrorCodes.StoreFailed, "the disk is full"));
        var ask = actor.AskAsync<object, int>(r => new Question(1, r), Second, bench.Time);
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(ErrorCodes.StoreFailed, Assert.IsType<FabricException>(ask.Exception?.InnerException).Error.Code);
    }

    [Fact]
    public void A_cancelled_ask_stops_waiting()
    {
        var bench = new ActorBench();
        using var cancellation = new CancellationTokenSource();
        var actor = bench.Spawn("a", a => a.OnMessage = _ => ValueTask.CompletedTask);
        var ask = actor.AskAsync<object, int>(r => new Question(1, r), Second, bench.Time, cancellation.Token);
        bench.Dispatcher.RunUntilIdle();
        cancellation.Cancel();
        Assert.True(ask.IsCanceled);
        Assert.Null(bench.Time.NextDue);
    }

    [Fact]
    public void Timers_fire_once_or_repeatedly_until_disposed()
    {
        var bench = new ActorBench();
        IDisposable? period = null;
        bench.Spawn("a", a =>
        {
            a.OnStarted = () =>
            {
                a.Me.TellAfter(Second * 3, "once");
                a.Me.TellAfter(Second * 2, "never").Dispose();
                period = a.Me.TellEvery(Second * 2, "tick");
                return ValueTask.CompletedTask;
            };
            a.OnMessage = message =>
            {
                a.Note($"{message} at {bench.Time.Elapsed.TotalSeconds}");
                if (bench.Time.Elapsed >= Second * 6)
                    period!.Dispose();
                return ValueTask.CompletedTask;
            };
        });
        bench.Dispatcher.RunFor(Second * 60);
        Assert.Equal(["tick at 2", "once at 3", "tick at 4", "tick at 6"], bench.Trace);
    }

    [Fact]
    public void Ticks_that_pass_while_the_actor_is_busy_are_skipped()
    {
        var bench = new ActorBench();
        bench.Spawn("a", a =>
        {
            a.OnStarted = () =>
            {
                a.Me.TellEvery(Second, "tick");
                return ValueTask.CompletedTask;
            };
            a.OnMessage = async message =>
            {
                a.Note($"{message} at {bench.Time.Elapsed.TotalSeconds}");
                await Task.Delay(Second * 3.5, a.Me.Time, a.Me.Stopping);
            };
        });
        bench.Dispatcher.RunFor(Second * 9);
        Assert.Equal(["tick at 1", "tick at 4.5", "tick at 8"], bench.Trace);
    }

    [Fact]
    public void Piped_work_runs_beside_the_actor_and_comes_back_as_a_message()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", a => a.OnMessage = message =>
        {
            a.Note($"{message}");
            if (Equals(message, "start"))
            {
                a.Me.PipeToSelf(
                    async stop =>
                    {
                        await Task.Delay(Second, a.Me.Time, stop);
                        return 7;
                    },
                    value => $"got {value}",
                    error => error.Code);
                a.Me.PipeToSelf<int>(_ => throw new FabricException(ErrorCodes.Lost, "planted"), _ => "no", error => error.Code);
            }

            return ValueTask.CompletedTask;
        });
        actor.TryTell("start");
        actor.TryTell("meanwhile");
        bench.Dispatcher.RunFor(Second * 2);
        Assert.Equal("start", bench.Trace[0]);
        Assert.Equal(["lost", "meanwhile", "start"], bench.Trace.Take(3).Order(StringComparer.Ordinal));
        Assert.Equal("got 7", bench.Trace[3]);
    }
}
