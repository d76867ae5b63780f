using Fabric.Actors;
using Xunit;

namespace Fabric.Unit.Actors;

public sealed class MailboxTests
{
    [Fact]
    public void Messages_are_handled_in_the_order_of_their_sender()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a");
        for (int i = 0; i < 500; i++)
            Assert.True(actor.TryTell(i));
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(Enumerable.Range(0, 500).Select(i => $"{i}"), bench.Trace);
    }

    [Fact]
    public void A_full_mailbox_refuses_and_takes_again_once_there_is_room()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a", options: new ActorOptions { MailboxCapacity = 3 });
        Assert.Equal([true, true, true, false], Enumerable.Range(0, 4).Select(i => actor.TryTell(i)));
        bench.Dispatcher.RunUntilIdle();
        Assert.True(actor.TryTell(9));
        bench.Dispatcher.RunUntilIdle();
        Assert.Equal(["0", "1", "2", "9"], bench.Trace);
    }

    [Fact]
    public void Outcomes_of_piped_work_overtake_user_messages_that_were_there_before_them()
    {
        // The gate holds the handler until both kinds wait; the user messages came first and are handled last.
        var bench = new ActorBench();
        var gate = new TaskCompletionSource();
        var actor = bench.Spawn("a", a => a.OnMessage = async message =>
        {
            a.Note($"{message}");
            if (Equals(message, "start"))
            {
                await gate.Task;
                a.Me.PipeToSelf(_ => Task.FromResult(1), _ => "piped", e => e);
                await Task.Delay(TimeSpan.FromSeconds(1), a.Me.Time, a.Me.Stopping);
            }
        });
        actor.TryTell("start");
        actor.TryTell("user 1");
        actor.TryTell("user 2");
        bench.Dispatcher.RunUntilIdle();
        gate.SetResult();
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(2));
        Assert.Equal(["start", "piped", "user 1", "user 2"], bench.Trace);
    }

    [Fact]
    public void A_stop_overtakes_all_waiting_messages()
    {
        var bench = new ActorBench();
        var actor = bench.Spawn("a");
        bench.Dispatcher.RunUntilIdle();
        for (int i = 0; i < 100; i++)
            actor.TryTell(i);
        _ = bench.System.StopAsync(actor, TimeSpan.FromSeconds(1));
        bench.Dispatcher.RunUntilIdle();
        Assert.Empty(bench.Trace);
        Assert.True(actor.Terminated.IsCompletedSuccessfully);
        Assert.False(actor.TryTell("late"));
    }

    [Fact]
    public void A_busy_actor_leaves_others_their_turn()
    {
        // One actor tells itself for ever; with a bounded turn the other one still gets its message handled.
        var bench = new ActorBench();
        bool seen = false;
        bench.Spawn("greedy", a => a.OnMessage = message =>
        {
            if (!seen)
                a.Me.Self.TryTell(message);
            return ValueTask.CompletedTask;
        }).TryTell("go");
        bench.Spawn("modest", a => a.OnMessage = _ =>
        {
            seen = true;
            return ValueTask.CompletedTask;
        }).TryTell("go");
        bench.Dispatcher.RunUntilIdle();
        Assert.True(seen);
    }

    [Fact]
    public void A_handler_that_yields_for_ever_leaves_others_their_turn()
    {
        var bench = new ActorBench();
        bool seen = false;
        bench.Spawn("yielding", a => a.OnMessage = async _ =>
        {
            while (!seen)
                await Task.Yield();
        }).TryTell("go");
        bench.Spawn("modest", a => a.OnMessage = _ =>
        {
            seen = true;
            return ValueTask.CompletedTask;
        }).TryTell("go");
        bench.Dispatcher.RunUntilIdle();
        Assert.True(seen);
    }

    [Fact]
    public void A_handler_and_its_continuations_are_one_message()
    {
        // The handler awaits in its middle; no other message may come in between.
        var bench = new ActorBench();
        int inside = 0;
        var actor = bench.Spawn("a", a => a.OnMessage = async message =>
        {
            Assert.Equal(1, ++inside);
            a.Note($"begin {message}");
            await Task.Yield();
            await Task.Delay(TimeSpan.FromSeconds(1), a.Me.Time, a.Me.Stopping);
            a.Note($"end {message}");
            inside--;
        });
        actor.TryTell(1);
        actor.TryTell(2);
        bench.Dispatcher.RunFor(TimeSpan.FromSeconds(5));
        Assert.Equal(["begin 1", "end 1", "begin 2", "end 2"], bench.Trace);
    }

    [Fact]
    public void The_context_refuses_callers_from_outside_the_turn()
    {
        var bench = new ActorBench();
        IActorContext<object>? leaked = null;
        bench.Spawn("a", a => a.OnStarted = () =>
        {
            leaked = a.Me;
            return ValueTask.CompletedTask;
        });
        bench.Dispatcher.RunUntilIdle();
        Assert.Throws<InvalidOperationException>(() => leaked!.Stop());
        Assert.Throws<InvalidOperationException>(() => leaked!.TellAfter(TimeSpan.Zero, "x"));
    }
}
