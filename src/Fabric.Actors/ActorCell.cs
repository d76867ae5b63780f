using Fabric.Core;
using Microsoft.Extensions.Logging;

namespace Fabric.Actors;

/// <summary>Who owns an actor: another actor, or the system for those at the root. Called from the child's turn.</summary>
internal interface IActorParent
{
    /// <summary>The child is gone; its name is free again.</summary>
    void ChildTerminated(ActorCell child);

    /// <summary>The child gave its failure up to this parent and stops.</summary>
    void ChildFailed(ActorCell child, Exception failure);
}

/// <summary>An actor without its message type: a name, a place in the tree, an end that others may wait for.</summary>
internal abstract class ActorCell
{
    // Guards the two fields below it; callbacks run outside of it.
    private readonly Lock _terminationGate = new();
    private LinkedList<Action>? _onTerminated = new();
    private readonly TaskCompletionSource _terminated = new(TaskCreationOptions.RunContinuationsAsynchronously);

    protected ActorCell(ActorSystem system, IActorParent parent, string path, string name)
    {
        System = system;
        Parent = parent;
        Path = path;
        Name = name;
    }

    public string Path { get; }

    public Task Terminated => _terminated.Task;

    internal string Name { get; }

    protected ActorSystem System { get; }

    protected IActorParent Parent { get; }

    /// <summary>Asks the actor to stop after its current message. Any thread, idempotent.</summary>
    internal abstract void PostStop();

    /// <summary>Runs the actor's first turn.</summary>
    internal abstract void Start();

    /// <summary>
    /// Calls back once, on the thread of the actor's last turn, or at once if it has terminated. The callback only posts. Any thread.
    /// </summary>
    internal IDisposable OnTerminated(Action callback)
    {
        lock (_terminationGate)
        {
            if (_onTerminated is not null)
                return new Registration(this, _onTerminated.AddLast(callback));
        }

        callback();
        return new Registration(this, null);
    }

    /// <summary>The end, said to everybody in a fixed order: parent first, so that a watcher may reuse the name.</summary>
    protected void AnnounceTermination()
    {
        Parent.ChildTerminated(this);
        LinkedList<Action>? callbacks;
        lock (_terminationGate)
        {
            callbacks = _onTerminated;
            _onTerminated = null;
        }

        _terminated.TrySetResult();
        foreach (var callback in callbacks ?? [])
            callback();
    }

    internal static FabricError ToError(Exception exception) => exception switch
    {
        FabricException fabric => fabric.Error,
        OperationCanceledException => new FabricError(ErrorCodes.Cancelled, "The work was cancelled."),
        TimeoutException => new FabricError(ErrorCodes.DeadlineExceeded, exception.Message),
        _ => new FabricError(ErrorCodes.Internal, $"{exception.GetType().Name}: {exception.Message}"),
    };

    private sealed class Registration(ActorCell cell, LinkedListNode<Action>? node) : IDisposable
    {
        public void Dispose()
        {
            if (node is null)
                return;

            // Once the end is being announced the list belongs to the announcement, which is walking it.
            lock (cell._terminationGate)
                cell._onTerminated?.Remove(node);
        }
    }
}

/// <summary>
/// One actor: the pump's side (what a turn may do) in this file, its life as one method in <c>.Life</c>, what a handler may do in
/// <c>.Context</c>. Fields without a remark are touched only inside the turn.
/// </summary>
internal sealed partial class ActorCell<TMessage> : ActorCell, IActorRef<TMessage>, IAskable<TMessage>, IActorParent, ITurnOwner
    where TMessage : class
{
    private readonly Func<Actor<TMessage>> _create;
    private readonly ActorOptions _options;
    private readonly Random _random;
    private readonly ILogger _log;
    private readonly Mailbox<TMessage> _mailbox;
    private readonly RestartHistory _restarts;
    private readonly Dictionary<string, ActorCell> _children = new(StringComparer.Ordinal);
    private readonly Queue<Delivery<TMessage>> _priority = new();
    private bool _begun;
    private bool _stopRequested;
    private Exception? _failure;

    internal ActorCell(ActorSystem system, IActorParent parent, string path, string name, Func<Actor<TMessage>> create, ActorOptions options)
        : base(system, parent, path, name)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MailboxCapacity, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Throughput, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(options.MaxRestarts);
        _create = create;
        _options = options;
        _random = system.NewRandom();
        _log = system.Log;
        _mailbox = new Mailbox<TMessage>(this, system.Dispatcher, options.MailboxCapacity, options.Throughput);
        _restarts = new RestartHistory(options, system.Time, _random);
    }

    public bool TryTell(TMessage message)
    {
        ArgumentNullException.ThrowIfNull(message);
        return _mailbox.TryPost(new Envelope<TMessage>(message, null));
    }

    bool IAskable<TMessage>.TryTell(TMessage message, IPendingAsk ask)
    {
        ArgumentNullException.ThrowIfNull(message);
        return _mailbox.TryPost(new Envelope<TMessage>(message, ask));
    }

    internal override void PostStop() => _mailbox.PostSystem(new SystemItem(SystemKind.Stop, null));

    // The first item is a continuation that begins the life; it runs on the dispatcher, free of the spawner's context.
    internal override void Start() => _mailbox.PostSystem(new SystemItem(SystemKind.Continue, this, static state => ((ActorCell<TMessage>)state!).Begin()));

    void IActorParent.ChildTerminated(ActorCell child) => _mailbox.PostSystem(new SystemItem(SystemKind.ChildTerminated, child));

    void IActorParent.ChildFailed(ActorCell child, Exception failure) => _mailbox.PostSystem(new SystemItem(SystemKind.ChildFailed, failure));

    bool ITurnOwner.AcceptsMessages => _waitsFor == Wait.Message;

    void ITurnOwner.Handle(in SystemItem item)
    {
        switch (item.Kind)
        {
            case SystemKind.Continue:
                Continue(item);
                break;
            case SystemKind.Stop:
                RequestStop();
                break;
            case SystemKind.ChildTerminated:
                var child = (ActorCell)item.State!;
                if (_children.TryGetValue(child.Name, out var known) && ReferenceEquals(known, child))
                    _children.Remove(child.Name);
                break;
            case SystemKind.ChildFailed:
                _failure ??= (Exception)item.State!;
                break;
            case SystemKind.Deliver:
                _priority.Enqueue((Delivery<TMessage>)item.State!);
                break;
            case SystemKind.TimedOut:
                if (ReferenceEquals(item.State, _waitTimer))
                    _waitExpired = true;
                break;
            default:
                throw new InvalidOperationException($"Unknown system item {item.Kind}.");
        }
    }

    public bool CanStep => _waitsFor switch
    {
        Wait.Nothing => false,
        Wait.Message => _stopRequested || _failure is not null || _priority.Count > 0 || _mailbox.HasUserMessages,
        Wait.Children => _children.Count == 0 || _waitExpired,
        Wait.Backoff => _stopRequested || _waitExpired,
        _ => throw new InvalidOperationException($"Unknown wait {_waitsFor}."),
    };

    void ITurnOwner.Step()
    {
        var resume = _resume;
        _waitsFor = Wait.Nothing;
        _resume = null;
        resume!();
    }

    private void Begin()
    {
        if (_begun)
            return;
        _begun = true;
        _ = LiveAsync();
    }

    /// <summary>A continuation of a handler's await. One that throws came from an async void: the actor has failed.</summary>
    private void Continue(in SystemItem item)
    {
        try
        {
            item.Callback!(item.State);
        }
#pragma warning disable CA1031 // Whatever user code throws here is the actor's failure; the supervision decides.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            _failure ??= exception;
        }
    }

    /// <summary>From now on: no message is accepted, those that wait are dropped and their asks fail, <c>Stopping</c> has fired.</summary>
    private void RequestStop()
    {
        if (_stopRequested)
            return;
        _stopRequested = true;
        _mailbox.Close();
        int dropped = 0;
        while (_mailbox.TryTake(out var envelope))
        {
            dropped++;
            envelope.Ask?.Abandon(new FabricError(ErrorCodes.Unreachable, $"Actor {Path} stopped before it handled the message."));
        }

        if (dropped > 0)
            LogDropped(_log, Path, dropped);
        CancelStopping();
    }
}
