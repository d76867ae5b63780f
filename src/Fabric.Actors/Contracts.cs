using Fabric.Core;

namespace Fabric.Actors;

/// <summary>Where a message can be put. Any thread.</summary>
public interface IActorRef<in TMessage> : IActorRef
    where TMessage : class
{
    /// <summary>Puts the message in the mailbox; false when the mailbox is full or the actor has stopped. Never blocks.</summary>
    bool TryTell(TMessage message);
}

/// <summary>An actor as a thing to name, watch and stop.</summary>
public interface IActorRef
{
    /// <summary>Names from the root, joined by '/': <c>/vms/web-1/memory</c>.</summary>
    string Path { get; }

    /// <summary>Completes after the actor's last message and its clean-up.</summary>
    Task Terminated { get; }
}

/// <summary>The other end of an ask; completed at most once, later completions are ignored.</summary>
public interface IReply<in TReply>
{
    void Succeed(TReply value);

    void Fail(FabricError error);
}

/// <summary>What an actor may do besides handling a message. Used only from inside its own handlers.</summary>
public interface IActorContext<TMessage>
    where TMessage : class
{
    IActorRef<TMessage> Self { get; }

    TimeProvider Time { get; }

    /// <summary>Fires when the actor is told to stop; pass it to everything that waits.</summary>
    CancellationToken Stopping { get; }

    IActorRef<TChild> Spawn<TChild>(string name, Func<Actor<TChild>> create, ActorOptions? options = null)
        where TChild : class;

    /// <summary>Sends <paramref name="notice"/> to this actor, ahead of user messages, when the other has terminated (also if it already has).</summary>
    void Watch(IActorRef other, TMessage notice);

    /// <summary>Sends a message to this actor later, once or repeatedly, until disposed or the actor stops.</summary>
    IDisposable TellAfter(TimeSpan delay, TMessage message);

    IDisposable TellEvery(TimeSpan period, TMessage message);

    /// <summary>
    /// Runs work beside the actor and turns its end into a message to itself; the actor goes on handling messages meanwhile.
    /// The work gets <see cref="Stopping"/>. The outcome message is delivered even if the mailbox is full.
    /// </summary>
    void PipeToSelf<TResult>(Func<CancellationToken, Task<TResult>> work, Func<TResult, TMessage> succeeded, Func<FabricError, TMessage> failed);

    /// <summary>Stops this actor after the current message; messages still waiting are dropped and their asks fail.</summary>
    void Stop();
}

/// <summary>
/// State that only its own messages touch: one message at a time, continuations included. An exception leaves the
/// current message and goes to the parent's decision (<see cref="ActorOptions.Supervision"/>): restart makes a new instance.
/// </summary>
public abstract class Actor<TMessage>
    where TMessage : class
{
    private IActorContext<TMessage>? _context;

    protected IActorContext<TMessage> Context => _context ?? throw new InvalidOperationException("The actor has not started.");

    /// <summary>Before the first message, and again on the new instance after a restart.</summary>
    protected internal virtual ValueTask StartedAsync() => ValueTask.CompletedTask;

    protected internal abstract ValueTask ReceiveAsync(TMessage message);

    /// <summary>After the last message, before children stop; also on the old instance before a restart.</summary>
    protected internal virtual ValueTask StoppingAsync() => ValueTask.CompletedTask;

    internal void Bind(IActorContext<TMessage> context) => _context = context;
}

public enum SupervisionDirective
{
    Restart,
    Stop,
    Escalate,
}

/// <summary>How an actor is run.</summary>
public sealed record ActorOptions
{
    public static ActorOptions Default { get; } = new();

    /// <summary>User messages that may wait; a further one is refused.</summary>
    public int MailboxCapacity { get; init; } = 1024;

    /// <summary>Messages handled before other actors get their turn.</summary>
    public int Throughput { get; init; } = 64;

    /// <summary>Decides what happens after an exception in <see cref="Actor{TMessage}.ReceiveAsync"/>.</summary>
    public Func<Exception, SupervisionDirective> Supervision { get; init; } = static _ => SupervisionDirective.Restart;

    /// <summary>Restarts allowed within <see cref="RestartWindow"/>; one more stops the actor.</summary>
    public int MaxRestarts { get; init; } = 5;

    public TimeSpan RestartWindow { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>First back-off; doubles to <see cref="MaxBackoff"/>, with jitter.</summary>
    public TimeSpan MinBackoff { get; init; } = TimeSpan.FromMilliseconds(50);

    public TimeSpan MaxBackoff { get; init; } = TimeSpan.FromSeconds(5);
}
