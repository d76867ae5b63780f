using Fabric.Core;

namespace Fabric.Actors;

#pragma warning disable CA1001 // The source of Stopping is cancelled at the end; with no timer and no wait handle it holds nothing to dispose.
internal sealed partial class ActorCell<TMessage> : IActorContext<TMessage>
#pragma warning restore CA1001
{
    /// <summary>Watches, timers and pieces of work that one incarnation may have under way: the bound of the system queue.</summary>
    private const int MaxOutstanding = 16384;

    // What this incarnation began and has not ended; all of it is let go together.
    private readonly HashSet<IDisposable> _outstanding = [];
    private CancellationTokenSource _stopping = new();
    private int _incarnation;

    public IActorRef<TMessage> Self => this;

    public TimeProvider Time => System.Time;

    public CancellationToken Stopping => _stopping.Token;

    public IActorRef<TChild> Spawn<TChild>(string name, Func<Actor<TChild>> create, ActorOptions? options = null)
        where TChild : class
    {
        RequireTurn();
        ArgumentNullException.ThrowIfNull(create);
        ActorSystem.RequireName(name);
        if (_ending || _stopRequested)
            throw new FabricException(ErrorCodes.Conflict, $"Actor {Path} is stopping and takes no child '{name}'.");
        if (_children.ContainsKey(name))
            throw new FabricException(ErrorCodes.AlreadyExists, $"Actor {Path} has a child '{name}' already.", "Watch it and wait for its end first.");
        var child = new ActorCell<TChild>(System, this, $"{Path}/{name}", name, create, options ?? ActorOptions.Default);
        _children.Add(name, child);
        child.Start();
        return child;
    }

    public void Watch(IActorRef other, TMessage notice)
    {
        RequireTurn();
        ArgumentNullException.ThrowIfNull(other);
        ArgumentNullException.ThrowIfNull(notice);
        if (ReferenceEquals(other, this))
            throw new ArgumentException("An actor cannot watch itself: it would be gone.", nameof(other));
        var watch = new WatchDelivery(this, notice);
        Add(watch);
        watch.Arm(other);
    }

    public IDisposable TellAfter(TimeSpan delay, TMessage message) => StartTimer(delay, Timeout.InfiniteTimeSpan, message);

    public IDisposable TellEvery(TimeSpan period, TMessage message)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(period, TimeSpan.Zero);
        return StartTimer(period, period, message);
    }

    public void PipeToSelf<TResult>(
        Func<CancellationToken, Task<TResult>> work, Func<TResult, TMessage> succeeded, Func<FabricError, TMessage> failed)
    {
        RequireTurn();
        ArgumentNullException.ThrowIfNull(work);
        ArgumentNullException.ThrowIfNull(succeeded);
        ArgumentNullException.ThrowIfNull(failed);
        var piped = new PipedDelivery<TResult>(this, work, succeeded, failed);
        Add(piped);
        System.Dispatcher.Schedule(piped);
    }

    public void Stop()
    {
        RequireTurn();
        RequestStop();
    }

    private TimerDelivery StartTimer(TimeSpan due, TimeSpan period, TMessage message)
    {
        RequireTurn();
        ArgumentNullException.ThrowIfNull(message);
        ArgumentOutOfRangeException.ThrowIfLessThan(due, TimeSpan.Zero);
        var timer = new TimerDelivery(this, message, periodic: period != Timeout.InfiniteTimeSpan);
        Add(timer);
        timer.Start(Time, due, period);
        return timer;
    }

    private void RequireTurn()
    {
        if (!_mailbox.InTurn)
            throw new InvalidOperationException($"The context of actor {Path} was used outside its handlers. Send the actor a message instead.");
    }

    private void Add(IDisposable outstanding)
    {
        if (_ending)
            throw new FabricException(ErrorCodes.Conflict, $"Actor {Path} is ending and begins nothing new.");
        if (_outstanding.Count >= MaxOutstanding)
            throw new FabricException(ErrorCodes.Exhausted, $"Actor {Path} has {MaxOutstanding} watches, timers and pieces of work under way.");
        _outstanding.Add(outstanding);
    }

    private void BeginIncarnation()
    {
        _incarnation++;
        _ending = false;
        _waitTimer = null;
        _stopping = new CancellationTokenSource();
        if (_stopRequested)
            CancelStopping();
    }

    private void CancelStopping()
    {
        try
        {
            _stopping.Cancel();
        }
#pragma warning disable CA1031 // Callbacks belong to whoever registered them; their failure must not stop the stop.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            LogCancelFailed(_log, exception, Path);
        }
    }

    private void EndOutstanding()
    {
        foreach (var outstanding in _outstanding.ToArray())
            outstanding.Dispose();
        _outstanding.Clear();
        // The next incarnation has the next number; what is still on its way carries this one and is dropped.
        _incarnation++;
    }

    private sealed class WatchDelivery(ActorCell<TMessage> cell, TMessage notice) : Delivery<TMessage>(cell._incarnation), IDisposable
    {
        private readonly CancellationTokenSource _ended = new();
        private IDisposable? _registration;

        internal void Arm(IActorRef other)
        {
            if (other is ActorCell watched)
                _registration = watched.OnTerminated(Post);
            else
                _ = other.Terminated.ContinueWith(_ => Post(), _ended.Token, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }

        internal override TMessage? Take()
        {
            cell._outstanding.Remove(this);
            Dispose();
            return notice;
        }

        public void Dispose()
        {
            _registration?.Dispose();
            _ended.Cancel();
            _ended.Dispose();
        }

        private void Post() => cell._mailbox.PostSystem(new SystemItem(SystemKind.Deliver, this));
    }

    /// <summary>
    /// A timer has at most one message under way: a period that passes before the last message was handled is skipped. A message of a
    /// disposed timer is never handled, even if it was under way.
    /// </summary>
    private sealed class TimerDelivery(ActorCell<TMessage> cell, TMessage message, bool periodic) : Delivery<TMessage>(cell._incarnation), IDisposable
    {
        private ITimer? _timer;
        private int _underWay;
        private volatile bool _disposed;

        internal void Start(TimeProvider time, TimeSpan due, TimeSpan period) =>
            _timer = time.CreateTimer(static state => ((TimerDelivery)state!).Fire(), this, due, period);

        internal override TMessage? Take()
        {
            if (_disposed)
                return null;
            Volatile.Write(ref _underWay, 0);
            if (!periodic)
                Dispose();
            return message;
        }

        /// <summary>In turn only.</summary>
        public void Dispose()
        {
            _disposed = true;
            _timer?.Dispose();
            cell._outstanding.Remove(this);
        }

        private void Fire()
        {
            if (!_disposed && Interlocked.Exchange(ref _underWay, 1) == 0)
                cell._mailbox.PostSystem(new SystemItem(SystemKind.Deliver, this));
        }
    }

    /// <summary>Work beside the actor. Its outcome is written before it is posted, and read in the actor's turn.</summary>
    private sealed class PipedDelivery<TResult>(
        ActorCell<TMessage> cell,
        Func<CancellationToken, Task<TResult>> work,
        Func<TResult, TMessage> succeeded,
        Func<FabricError, TMessage> failed) : Delivery<TMessage>(cell._incarnation), IThreadPoolWorkItem, IDisposable
    {
        private readonly CancellationToken _stopping = cell.Stopping;
        private TResult? _result;
        private FabricError? _error;

        public void Execute() => cell.System.WorkContext.Enter(() => _ = RunAsync());

        internal override TMessage? Take()
        {
            cell._outstanding.Remove(this);
            return _error is null ? succeeded(_result!) : failed(_error);
        }

        // The work ends by its token; there is nothing else to let go.
        public void Dispose()
        {
        }

        private async Task RunAsync()
        {
            try
            {
                _result = await work(_stopping);
            }
#pragma warning disable CA1031 // The failure is a message to the actor.
            catch (Exception exception)
#pragma warning restore CA1031
            {
                _error = ToError(exception);
            }

            cell._mailbox.PostSystem(new SystemItem(SystemKind.Deliver, this));
        }
    }
}

/// <summary>A message that the actor itself arranged for; it comes ahead of user messages. Null: it is no longer wanted.</summary>
internal abstract class Delivery<TMessage>(int incarnation)
    where TMessage : class
{
    internal int Incarnation => incarnation;

    internal abstract TMessage? Take();
}
