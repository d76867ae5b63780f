using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Threading.Channels;

namespace Fabric.Actors;

// The mailbox: how messages of many threads become the turns of one actor.
//
//      any thread                                   one thread at a time: "the turn"
//   TryPost ──▶ user queue (bounded) ────────┐
//                                            ├──▶ Execute: up to Throughput steps, then the next actor
//   PostSystem ─▶ system queue ──────────────┘      each step: one system item, else one step of the actor's body
//        └── both then call Wake: Idle ─CAS─▶ Scheduled ──▶ dispatcher
//
//   Idle ──(Wake: one compare-exchange; the winner schedules)──▶ Scheduled ──(Execute ends: exchange)──▶ Idle
//
//   1. A producer first enqueues, then tries Idle → Scheduled. Only the winner calls the dispatcher, so at most one
//      Execute is queued or running at any time. That is what makes the turn exclusive: no lock is held in it.
//   2. Execute runs its steps while the state is Scheduled. At its end it notes whether the body itself could go on, writes Idle with
//      a full fence and only then looks at the queues again. A message that came before the write is seen by this look; one that came after it finds
//      Idle and schedules by itself. So no wake-up is lost; at worst an empty turn is run.
//   3. The system queue is always served first, before each user message. It holds: continuations of the actor's own
//      awaits, stop, the end or failure of a child, notices of watched actors, timers, outcomes of piped work. It has no
//      numeric bound, but nobody outside can fill it: each item answers to one thing that the actor itself began (an
//      await, a child, a watch, a timer, a piece of work), and those are counted and limited by the actor's context.
//   4. While a handler awaits, the body takes no message: user messages wait, continuations and stop get through.
//      That a user message now wakes an empty turn is the price of having only two states.
//   5. Close refuses further user messages. The channel's own lock decides each race: a message was either refused or
//      will be found by Drain, so an ask is never forgotten. The system queue stays open for ever, since a
//      continuation that comes late (of a task nobody awaited) must still run somewhere: here.
//
// Cost: one channel write (a lock, not contended beyond its producers), one compare-exchange, no allocation per user message.

/// <summary>A user message and, if somebody asked, whom to tell when it is never handled.</summary>
internal readonly record struct Envelope<TMessage>(TMessage Message, IPendingAsk? Ask);

internal enum SystemKind
{
    Continue,
    Stop,
    ChildTerminated,
    ChildFailed,
    Deliver,
    TimedOut,
}

/// <summary>One entry of the system queue; what <paramref name="State"/> is depends on the kind.</summary>
internal readonly record struct SystemItem(SystemKind Kind, object? State, SendOrPostCallback? Callback = null);

/// <summary>The actor behind a mailbox. Every member is called inside the turn only.</summary>
internal interface ITurnOwner
{
    /// <summary>True while the body waits for a message; only then do user messages call for a turn.</summary>
    bool AcceptsMessages { get; }

    void Handle(in SystemItem item);

    /// <summary>True when what the body waits for is there: a message, a stop, the end of its children.</summary>
    bool CanStep { get; }

    /// <summary>Lets the body go on; only when <see cref="CanStep"/>.</summary>
    void Step();
}

internal sealed class Mailbox<TMessage> : IThreadPoolWorkItem
    where TMessage : class
{
    private const int Idle = 0;
    private const int Scheduled = 1;

    private readonly Channel<Envelope<TMessage>> _user;
    private readonly ConcurrentQueue<SystemItem> _system = new();
    private readonly IDispatcher _dispatcher;
    private readonly ITurnOwner _owner;
    private readonly TurnContext _context;
    private readonly int _throughput;
    private int _state;

    // Written by the thread of the turn; read by any thread that asks whether it is that thread.
    private volatile int _turnThread;

    internal Mailbox(ITurnOwner owner, IDispatcher dispatcher, int capacity, int throughput)
    {
        _owner = owner;
        _dispatcher = dispatcher;
        _throughput = throughput;
        _context = new TurnContext(this);
        _user = Channel.CreateBounded<Envelope<TMessage>>(new BoundedChannelOptions(capacity)
        {
            FullMode = BoundedChannelFullMode.Wait,
            AllowSynchronousContinuations = false,
        });
    }

    /// <summary>True on the thread that runs the current turn.</summary>
    internal bool InTurn => _turnThread == Environment.CurrentManagedThreadId;

    /// <summary>In turn only (a producer's count may be stale).</summary>
    internal bool HasUserMessages => _user.Reader.Count > 0;

    /// <summary>False when full or closed. Any thread.</summary>
    internal bool TryPost(in Envelope<TMessage> envelope)
    {
        if (!_user.Writer.TryWrite(envelope))
            return false;
        Wake();
        return true;
    }

    /// <summary>Any thread.</summary>
    internal void PostSystem(in SystemItem item)
    {
        _system.Enqueue(item);
        Wake();
    }

    /// <summary>In turn only.</summary>
    internal bool TryTake([MaybeNullWhen(false)] out Envelope<TMessage> envelope) => _user.Reader.TryRead(out envelope);

    /// <summary>Refuses user messages from now on.</summary>
    internal void Close() => _user.Writer.TryComplete();

    public void Execute()
    {
        var outer = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(_context);
        _turnThread = Environment.CurrentManagedThreadId;
        for (int step = 0; step < _throughput && Step(); step++)
        {
        }

        // Taken inside the turn: after the exchange the next turn may already be changing it. The body may be ready without anything
        // in a queue, when the last step of this turn took the system item that it waited for.
        bool canStep = _owner.CanStep;
        bool acceptsMessages = _owner.AcceptsMessages;
        _turnThread = 0;
        SynchronizationContext.SetSynchronizationContext(outer);
        Interlocked.Exchange(ref _state, Idle);
        if (canStep || !_system.IsEmpty || (acceptsMessages && HasUserMessages))
            Wake();
    }

    private bool Step()
    {
        if (_system.TryDequeue(out var item))
            _owner.Handle(item);
        else if (_owner.CanStep)
            _owner.Step();
        else
            return false;
        return true;
    }

    private void Wake()
    {
        if (Interlocked.CompareExchange(ref _state, Scheduled, Idle) == Idle)
            _dispatcher.Schedule(this);
    }

    /// <summary>Brings the continuations of a handler's awaits back into the actor's turn.</summary>
    private sealed class TurnContext(Mailbox<TMessage> mailbox) : SynchronizationContext
    {
        public override void Post(SendOrPostCallback d, object? state) =>
            mailbox.PostSystem(new SystemItem(SystemKind.Continue, state, d));

        public override void Send(SendOrPostCallback d, object? state)
        {
            if (!mailbox.InTurn)
                throw new NotSupportedException("A callback can be posted to an actor, not sent: the sender would block.");
            d(state);
        }

        public override SynchronizationContext CreateCopy() => this;
    }
}
