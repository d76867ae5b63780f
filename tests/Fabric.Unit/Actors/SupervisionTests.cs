using Fabric.Actors;
using Fabric.Core;
using Xunit;

namespace Fabric.Unit.Actors;

public sealed class SupervisionTests
{
    private static ValueTask ThrowOn(ScriptedActor actor, object message)
    {
        if (message is Exception exception)
            throw exception;
        actor.Note($"{message}");
        return ValueTask.CompletedTask;
    }

    [Fact]
    public void A_restart_makes_a_new_instance_after_the_back_off_and_keeps_the_waiting_messages()
    {
        var bench = new ActorBench();
        int instances = 0;
        var options = new ActorOptions { MinBackoff = TimeSpan.FromSeconds(1), MaxBackoff = TimeSpan.FromSeconds(8) };
        var actor = bench.Spawn("a", a =>
        {
            instances++;
            a.OnMessage = message => ThrowOn(a, message);
            a.OnStopping = () =>
            {
                a.Note("stopping");
                return ValueTask.CompletedTask;
            };
        }, options);
        actor.TryTell("one");
        actor.TryTell(new InvalidOperationException("planted"));
        actor.TryTell("two");
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(["one", "stopping"], bench.Trace);
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(0.49));
        Assert.Equal(1, instances);
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(0.51));
        Assert.Equal(2, instances);
        Assert.Equal(["one", "stopping", "two"], bench.Trace);
    }

    [Fact]
    public void Back_off_doubles_with_jitter_up_to_its_bound_and_the_window_forgets()
    {
        var bench = new ActorBench();
        var started = new List<TimeSpan>();
        var options = new ActorOptions
        {
            MinBackoff = TimeSpan.FromSeconds(1),
            MaxBackoff = TimeSpan.FromSeconds(4),
            MaxRestarts = 5,
            RestartWindow = TimeSpan.FromMinutes(1),
        };
        var actor = bench.Spawn("a", a =>
        {
            started.Add(bench.Time.Elapsed);
            a.OnMessage = message => ThrowOn(a, message);
        }, options);
        for (int i = 0; i < 5; i++)
        {
            actor.TryTell(new InvalidOperationException("planted"));
            bench.Dispatcher.RunFor(TimeSpan.FromSeconds(10));
        }

        // Failure k happens at 10·k s; its restart follows after between half and all of min(2^k, 4) s.
        for (int i = 0; i < 5; i++)
        {
            double step = Math.Min(Math.Pow(2, i), 4);
            double delay = (started[i + 1] - TimeSpan.FromSeconds(10 * i)).TotalSeconds;
            Assert.InRange(delay, step / 2, step);
        }

        // The first restart is now 60 s back: one more is allowed. The one after it is the sixth within a minute.
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(11));
        actor.TryTell(new InvalidOperationException("planted"));
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(5));
        Assert.Equal(7, started.Count);
        Assert.False(actor.Terminated.IsCompleted);
    }

    [Fact]
    public void One_restart_too_many_stops_the_actor()
    {
        var bench = new ActorBench();
        int instances = 0;
        var actor = bench.Spawn("a", a =>
        {
            instances++;
            a.OnStarted = () => throw new InvalidOperationException("planted");
        }, new ActorOptions { MaxRestarts = 3 });
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(30));
        Assert.Equal(4, instances);
        Assert.True(actor.Terminated.IsCompletedSuccessfully);
    }

    [Fact]
    public void Stop_ends_the_actor_and_its_children_before_it()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("parent", a =>
        {
            a.OnStarted = () =>
            {
                a.Me.Spawn("child", bench.Script(c => c.OnStopping = async () =>
                {
                    await Task.Delay(TimeSpan.FromSeconds(2), c.Me.Time);
                    c.Note("child stopped");
                }));
                return ValueTask.CompletedTask;
            };
            a.OnMessage = message => ThrowOn(a, message);
            a.OnStopping = () =>
            {
                a.Note("parent stopping");
                return ValueTask.CompletedTask;
            };
        }, new ActorOptions { Supervision = _ => SupervisionDirective.Stop });
        actor.TryTell(new InvalidOperationException("planted"));
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        Assert.Equal(["parent stopping"], bench.Trace);
        Assert.False(actor.Terminated.IsCompleted);
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        Assert.True(actor.Terminated.IsCompletedSuccessfully);
        Assert.Equal(["parent stopping", "child stopped"], bench.Trace);
    }

    [Fact]
    public void An_escalated_failure_restarts_the_parent_by_its_own_supervision()
    {
        var bench = new ActorBench();
        Exception? decidedOn = null;
        int parents = 0;
        var options = new ActorOptions
        {
            Supervision = failure =>
            {
                decidedOn = failure;
                return SupervisionDirective.Restart;
            },
        };
        IActorRef<object>? child = null;
        var parent = bench.Spawn("parent", a =>
        {
            parents++;
            a.OnStarted = () =>
            {
                child = a.Me.Spawn(
                    "child", bench.Script(c => c.OnMessage = m => ThrowOn(c, m)), new ActorOptions { Supervision = _ => SupervisionDirective.Escalate });
                return ValueTask.CompletedTask;
            };
        }, options);
        bench.Dispatcher.RunUntilIdle();
        var first = child!;
        var planted = new InvalidOperationException("planted");
        first.TryTell(planted);
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        Assert.Same(planted, decidedOn);
        Assert.Equal(2, parents);
        Assert.True(first.Terminated.IsCompleted);
        Assert.NotSame(first, child);
        Assert.True(child!.TryTell("works again"));
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(["works again"], bench.Trace);
        Assert.False(parent.Terminated.IsCompleted);
    }

    [Fact]
    public void An_escalation_at_the_root_stops_the_actor()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", a => a.OnMessage = m => ThrowOn(a, m), new ActorOptions { Supervision = _ => SupervisionDirective.Escalate });
        actor.TryTell(new InvalidOperationException("planted"));
        bench.Dispatcher.RunUntilIdle();
        Assert.True(actor.Terminated.IsCompletedSuccessfully);
    }

    [Fact]
    public void A_failure_after_an_await_and_one_in_an_async_void_are_failures_of_the_actor()
    {
        var bench = new ActorBench();
        int instances = 0;
        var actor = bench.Spawn("a", a =>
        {
            instances++;
            a.OnMessage = async message =>
            {
                if (Equals(message, "void"))
                {
                    FailLater();
                    return;
                }

                await Task.Yield();
                throw new InvalidOperationException("planted");
            };
        });
        actor.TryTell("await");
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        Assert.Equal(2, instances);
        actor.TryTell("void");
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        Assert.Equal(3, instances);

#pragma warning disable VSTHRD100, MA0155 // The point of the test: not even this may end the process.
        static async void FailLater()
        {
            await Task.Yield();
            throw new InvalidOperationException("planted");
        }
#pragma warning restore VSTHRD100, MA0155
    }

    [Fact]
    public void A_restart_forgets_the_timers_watches_and_work_of_the_old_instance()
    {
        var bench = new ActorBench();
        var watched = bench.Spawn("watched");
        int instances = 0;
        var actor = bench.Spawn("a", a =>
        {
            int instance = ++instances;
            a.OnMessage = message => ThrowOn(a, message);
            if (instance == 1)
            {
                a.OnStarted = () =>
                {
                    a.Me.Watch(watched, "old watch");
                    a.Me.TellAfter(TimeSpan.FromSeconds(5), "old timer");
                    a.Me.TellEvery(TimeSpan.FromSeconds(2), "old period");
                    a.Me.PipeToSelf(
                        async stop =>
                        {
                            await Task.Delay(TimeSpan.FromSeconds(20), a.Me.Time, stop);
                            return 1;
                        },
                        _ => "old work",
                        _ => "old work");
                    return ValueTask.CompletedTask;
                };
            }
        });
        actor.TryTell(new InvalidOperationException("planted"));
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        _ = bench.System.StopAsync(watched, TimeSpan.FromSeconds(1));
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(30));
        Assert.Equal(2, instances);
        Assert.Empty(bench.Trace);
        Assert.Null(bench.Time.NextDue);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(64)]
    public void A_tree_stops_whatever_the_length_of_a_turn(int throughput)
    {
        // With a turn of one step the stop itself uses the turn up; the actor must still get the next one.
        var bench = new ActorBench();
        var options = new ActorOptions { Throughput = throughput };
        var root = bench.Spawn("root", a => a.OnStarted = () =>
        {
            a.Me.Spawn("child", bench.Script(null), options);
            return ValueTask.CompletedTask;
        }, options);
        bench.Dispatcher.RunUntilIdle();
        var stopped = bench.System.StopAsync(TimeSpan.FromSeconds(5));
        bench.Dispatcher.RunUntilIdle();
        Assert.True(stopped.IsCompletedSuccessfully);
        Assert.True(root.Terminated.IsCompletedSuccessfully);
    }

    [Fact]
    public void A_child_that_does_not_stop_is_left_behind_after_the_deadline()
    {
        var bench = new ActorBench();
        var never = new TaskCompletionSource();
        var parent = bench.Spawn("parent", a => a.OnStarted = () =>
        {
            a.Me.Spawn("deaf", bench.Script(c => c.OnStopping = () => new ValueTask(never.Task)));
            return ValueTask.CompletedTask;
        });
        bench.Dispatcher.RunUntilIdle();
        var stopped = bench.System.StopAsync(TimeSpan.FromSeconds(60));
        bench.Dispatcher.RunFor(bench.System.ChildStopDeadline - TimeSpan.FromSeconds(1));
        Assert.False(parent.Terminated.IsCompleted);
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(1));
        Assert.True(parent.Terminated.IsCompleted);
        Assert.True(stopped.IsCompletedSuccessfully);
    }

    [Fact]
    public void Stopping_the_system_names_the_actors_that_do_not_stop()
    {
        var bench = new ActorBench();
        var never = new TaskCompletionSource();
        bench.Spawn("deaf", a => a.OnMessage = _ => new ValueTask(never.Task)).TryTell("go");
        bench.Spawn("good");
        bench.Dispatcher.RunUntilIdle();
        var stopped = bench.System.StopAsync(TimeSpan.FromSeconds(5));
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(6));
        var error = Assert.IsType<FabricException>(stopped.Exception?.InnerException).Error;
        Assert.Equal(ErrorCodes.DeadlineExceeded, error.Code);
        Assert.Contains("/deaf", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("/good", error.Message, StringComparison.Ordinal);
        Assert.Throws<FabricException>(() => bench.Spawn("late"));
    }
}
