using Fabric.Actors;
using Fabric.Actors.Testing;
using Microsoft.Extensions.Logging.Abstractions;

namespace Fabric.Unit.Actors;

/// <summary>A system on one thread and a manual clock, from one seed.</summary>
internal sealed class ActorBench
{
    internal ActorBench(int seed = 1)
    {
        Time = new ManualTime();
        Dispatcher = new DeterministicDispatcher(seed, Time);
        System = new ActorSystem(Time, new Random(seed), Dispatcher, NullLoggerFactory.Instance);
    }

    internal ManualTime Time { get; }

    internal DeterministicDispatcher Dispatcher { get; }

    internal ActorSystem System { get; }

    /// <summary>What happened, in order; written by the actors of the test.</summary>
    internal List<string> Trace { get; } = [];

    internal IActorRef<object> Spawn(string name, Action<ScriptedActor>? script = null, ActorOptions? options = null) =>
        System.Spawn(name, Script(script), options);

    internal Func<Actor<object>> Script(Action<ScriptedActor>? script) => () =>
    {
        var actor = new ScriptedActor(Trace);
        script?.Invoke(actor);
        return actor;
    };
}

/// <summary>An actor whose behaviour the test writes down; by default it notes each message in the trace.</summary>
internal sealed class ScriptedActor : Actor<object>
{
    private readonly List<string> _trace;

    internal ScriptedActor(List<string> trace)
    {
        _trace = trace;
        OnMessage = message =>
        {
            Note($"{message}");
            return ValueTask.CompletedTask;
        };
    }

    internal Func<ValueTask> OnStarted { get; set; } = static () => ValueTask.CompletedTask;

    internal Func<object, ValueTask> OnMessage { get; set; }

    internal Func<ValueTask> OnStopping { get; set; } = static () => ValueTask.CompletedTask;

    internal IActorContext<object> Me => Context;

    internal void Note(string text) => _trace.Add(text);

    protected override ValueTask StartedAsync() => OnStarted();

    protected override ValueTask ReceiveAsync(object message) => OnMessage(message);

    protected override ValueTask StoppingAsync() => OnStopping();
}

internal sealed record Question(int Value, IReply<int> Reply);
