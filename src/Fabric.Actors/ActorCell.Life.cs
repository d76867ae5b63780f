using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace Fabric.Actors;

// The life of an actor, as one asynchronous method inside its turns:
//
//   ┌─▶ incarnation: create ─▶ StartedAsync ─▶ (message ─▶ ReceiveAsync)* ─┬─ stop ────────────────────┐
//   │                                                                      └─ exception                │
//   │                                                                           │ supervision decides  │
//   │        StoppingAsync, children stop, timers/watches/work forgotten ◀──────┤                      │
//   └────────────────────── back-off ◀── restart ───────────────────────────────┘                      │
//            StoppingAsync, children stop ◀── stop, escalate (parent told first), too many restarts ◀──┘
//            parent, watchers, Terminated
//
// The method waits in three places (Wait), each time by handing its continuation to the pump (ParkAsync), which resumes it when
// the condition holds. Everything else that it awaits is user code, whose continuations arrive through the system queue.

internal sealed partial class ActorCell<TMessage>
{
    private enum Wait
    {
        Nothing,
        Message,
        Children,
        Backoff,
    }

    private Wait _waitsFor;
    private Action? _resume;
    private WaitTimer? _waitTimer;
    private bool _waitExpired;
    private Actor<TMessage>? _actor;
    private bool _ending;

    private async Task LiveAsync()
    {
        try
        {
            bool again = true;
            while (again)
            {
                var failure = await LiveOnceAsync();
                var delay = failure is null ? null : Decide(failure);
                if (delay is null)
                    RequestStop();
                await EndIncarnationAsync();
                again = delay is { } backoff && await BackOffAsync(backoff);
            }
        }
#pragma warning disable CA1031 // A defect of the kernel itself must still end the actor where everybody sees it.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            LogDefect(_log, exception, Path);
            RequestStop();
        }

        AnnounceTermination();
    }

    /// <summary>One instance from its creation to its stop (null) or its failure.</summary>
    private async Task<Exception?> LiveOnceAsync()
    {
        BeginIncarnation();
        try
        {
            if (_stopRequested)
                return null;
            _actor = _create();
            _actor.Bind(this);
            await _actor.StartedAsync();
            while (true)
            {
                await Park(Wait.Message);
                if (_stopRequested)
                    return null;
                if (TakeFailure() is { } failure)
                    return failure;
                await HandleNextAsync();
            }
        }
        catch (OperationCanceledException) when (_stopRequested)
        {
            return null;
        }
#pragma warning disable CA1031 // Every exception of user code goes to the supervision.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            return exception;
        }
    }

    private ValueTask HandleNextAsync()
    {
        while (_priority.TryDequeue(out var delivery))
        {
            // What an earlier incarnation began is not this one's business.
            if (delivery.Incarnation == _incarnation && delivery.Take() is { } message)
                return _actor!.ReceiveAsync(message);
        }

        if (!_mailbox.TryTake(out var envelope))
            return ValueTask.CompletedTask;
        return envelope.Ask is null ? _actor!.ReceiveAsync(envelope.Message) : HandleAskedAsync(envelope);
    }

    private async ValueTask HandleAskedAsync(Envelope<TMessage> envelope)
    {
        try
        {
            await _actor!.ReceiveAsync(envelope.Message);
        }
        catch (Exception exception)
        {
            envelope.Ask!.Abandon(ToError(exception));
            throw;
        }
    }

    private Exception? TakeFailure()
    {
        var failure = _failure;
        _failure = null;
        return failure;
    }

    /// <summary>What the supervision says to a failure: the back-off before a restart, or null for the end.</summary>
    private TimeSpan? Decide(Exception failure)
    {
        SupervisionDirective directive;
        try
        {
            directive = _options.Supervision(failure);
        }
#pragma warning disable CA1031 // A supervision that throws has not decided; the careful answer is to stop.
        catch (Exception undecided)
#pragma warning restore CA1031
        {
            LogUndecided(_log, undecided, Path);
            directive = SupervisionDirective.Stop;
        }

        if (directive == SupervisionDirective.Restart)
        {
            if (_restarts.TryNext(out var delay))
            {
                LogRestart(_log, failure, Path, _restarts.Count, delay.TotalMilliseconds);
                return delay;
            }

            LogExhausted(_log, failure, Path, _options.MaxRestarts, _options.RestartWindow);
            return null;
        }

        LogFailed(_log, failure, Path, directive);
        if (directive == SupervisionDirective.Escalate)
            Parent.ChildFailed(this, failure);
        return null;
    }

    /// <summary>After the last message of an instance: its clean-up, then its children, then nothing of it is left.</summary>
    private async Task EndIncarnationAsync()
    {
        _ending = true;
        CancelStopping();
        try
        {
            if (_actor is not null)
                await _actor.StoppingAsync();
        }
#pragma warning disable CA1031 // A failed clean-up must not keep the rest of the tree alive.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            LogStoppingFailed(_log, exception, Path);
        }

        _actor = null;
        EndOutstanding();
        foreach (var child in _children.Values)
            child.PostStop();
        if (_children.Count > 0 && !await WaitAsync(Wait.Children, System.ChildStopDeadline))
        {
            LogChildrenLeft(_log, Path, string.Join(", ", _children.Keys), System.ChildStopDeadline);
            _children.Clear();
        }

        _failure = null;
    }

    /// <summary>False when told to stop meanwhile.</summary>
    private async Task<bool> BackOffAsync(TimeSpan delay)
    {
        await WaitAsync(Wait.Backoff, delay);
        return !_stopRequested;
    }

    /// <summary>Waits for the condition, at most so long; false when the time has passed first.</summary>
    private async Task<bool> WaitAsync(Wait condition, TimeSpan most)
    {
        _waitExpired = false;
        var timer = new WaitTimer(_mailbox);
        _waitTimer = timer;
        timer.Start(Time, most);
        await Park(condition);
        bool expired = _waitExpired;
        _waitTimer = null;
        timer.Dispose();
        return !expired;
    }

    private ParkAwaitable Park(Wait condition) => new(this, condition);

    /// <summary>Ends the current run of the body and gives its continuation to the pump. No allocation: the continuation is the body's own.</summary>
    private readonly struct ParkAwaitable(ActorCell<TMessage> cell, Wait condition) : ICriticalNotifyCompletion
    {
        public bool IsCompleted => false;

        public ParkAwaitable GetAwaiter() => this;

        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        public void UnsafeOnCompleted(Action continuation)
        {
            cell._resume = continuation;
            cell._waitsFor = condition;
        }

        public void GetResult()
        {
        }
    }

    /// <summary>The deadline of one wait; also its identity, so that a late one is recognised.</summary>
    private sealed class WaitTimer(Mailbox<TMessage> mailbox) : IDisposable
    {
        private ITimer? _timer;

        internal void Start(TimeProvider time, TimeSpan due) =>
            _timer = time.CreateTimer(static state => ((WaitTimer)state!).Fire(), this, due, Timeout.InfiniteTimeSpan);

        public void Dispose() => _timer?.Dispose();

        private void Fire() => mailbox.PostSystem(new SystemItem(SystemKind.TimedOut, this));
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "Actor {Path} stops and drops {Count} messages.")]
    private static partial void LogDropped(ILogger log, string path, int count);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Actor {Path} failed; restart {Restart} in {DelayMs:0} ms.")]
    private static partial void LogRestart(ILogger log, Exception exception, string path, int restart, double delayMs);

    [LoggerMessage(Level = LogLevel.Error, Message = "Actor {Path} failed more than {Most} times within {Window}; it stops.")]
    private static partial void LogExhausted(ILogger log, Exception exception, string path, int most, TimeSpan window);

    [LoggerMessage(Level = LogLevel.Error, Message = "Actor {Path} failed; its supervision says {Directive}.")]
    private static partial void LogFailed(ILogger log, Exception exception, string path, SupervisionDirective directive);

    [LoggerMessage(Level = LogLevel.Error, Message = "The supervision of actor {Path} threw; the actor stops.")]
    private static partial void LogUndecided(ILogger log, Exception exception, string path);

    [LoggerMessage(Level = LogLevel.Error, Message = "The clean-up of actor {Path} threw; it goes on ending.")]
    private static partial void LogStoppingFailed(ILogger log, Exception exception, string path);

    [LoggerMessage(Level = LogLevel.Error, Message = "Children of actor {Path} did not stop within {Deadline}: {Children}. They are left behind.")]
    private static partial void LogChildrenLeft(ILogger log, string path, string children, TimeSpan deadline);

    [LoggerMessage(Level = LogLevel.Critical, Message = "The kernel failed in actor {Path}; the actor ends.")]
    private static partial void LogDefect(ILogger log, Exception exception, string path);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A callback on the stop of actor {Path} threw.")]
    private static partial void LogCancelFailed(ILogger log, Exception exception, string path);
}
