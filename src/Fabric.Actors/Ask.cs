using Fabric.Core;

namespace Fabric.Actors;

/// <summary>An ask that waits for its answer, as a mailbox sees it.</summary>
internal interface IPendingAsk
{
    /// <summary>Nobody will answer: the message was dropped, or its handler failed. Ignored when an answer came first.</summary>
    void Abandon(FabricError error);
}

/// <summary>A mailbox that can say what became of an asked message, and an actor whose end can be noticed.</summary>
internal interface IAskable<in TMessage>
{
    bool TryTell(TMessage message, IPendingAsk ask);
}

public static class Ask
{
    /// <summary>
    /// Sends a message that carries a reply and waits for the answer.
    /// A failure says nothing about what the actor did: the message may have been handled, or may still be.
    /// </summary>
    /// <param name="actor">Who is asked.</param>
    /// <param name="message">Makes the message around the reply. Called once, before this method returns.</param>
    /// <param name="deadline">More than zero.</param>
    /// <param name="time">The clock of the deadline.</param>
    /// <param name="cancellation">Gives up waiting; the message is not taken back.</param>
    /// <exception cref="FabricException">
    /// deadline-exceeded: no answer in time. unreachable: the mailbox is full, or the actor has stopped or stops before it answers.
    /// Any code: what the actor answered with <see cref="IReply{TReply}.Fail"/>, or the exception that its handler left with.
    /// </exception>
    public static Task<TReply> AskAsync<TMessage, TReply>(
        this IActorRef<TMessage> actor,
        Func<IReply<TReply>, TMessage> message,
        TimeSpan deadline,
        TimeProvider time,
        CancellationToken cancellation = default)
        where TMessage : class
    {
        ArgumentNullException.ThrowIfNull(actor);
        ArgumentNullException.ThrowIfNull(message);
        ArgumentNullException.ThrowIfNull(time);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(deadline, TimeSpan.Zero);
        if (cancellation.IsCancellationRequested)
            return Task.FromCanceled<TReply>(cancellation);
        var ask = new PendingAsk<TReply>(actor.Path, deadline);
        var asked = message(ask);
        bool told = actor is IAskable<TMessage> askable ? askable.TryTell(asked, ask) : actor.TryTell(asked);
        if (!told)
        {
            bool stopped = actor.Terminated.IsCompleted;
            ask.Abandon(new FabricError(
                ErrorCodes.Unreachable,
                $"Actor {actor.Path} takes no message: {(stopped ? "it has stopped" : "it is stopping or its mailbox is full")}.",
                stopped ? null : "Try again later."));
            return ask.Task;
        }

        ask.Arm(actor as ActorCell, time, cancellation);
        return ask.Task;
    }

    /// <summary>
    /// The reply and the waiting in one. No async method is involved, so the answer itself completes the task: an awaiting
    /// actor gets its continuation in its own mailbox at that moment, on whatever thread answered.
    /// </summary>
    private sealed class PendingAsk<TReply>(string path, TimeSpan deadline)
        : TaskCompletionSource<TReply>(TaskCreationOptions.RunContinuationsAsynchronously), IReply<TReply>, IPendingAsk
    {
        private readonly Lock _gate = new();
        private IDisposable? _watch;
        private ITimer? _timer;
        private CancellationTokenRegistration _registration;
        private bool _ended;

        public void Succeed(TReply value)
        {
            if (TrySetResult(value))
                End();
        }

        public void Fail(FabricError error)
        {
            if (TrySetException(new FabricException(error)))
                End();
        }

        public void Abandon(FabricError error) => Fail(error);

        internal void Arm(ActorCell? cell, TimeProvider time, CancellationToken cancellation)
        {
            var watch = cell?.OnTerminated(() => Abandon(new FabricError(ErrorCodes.Unreachable, $"Actor {path} stopped before it answered.")));
            var timer = time.CreateTimer(
                static state => ((PendingAsk<TReply>)state!).Expire(), this, deadline, Timeout.InfiniteTimeSpan);
            var registration = cancellation.UnsafeRegister(
                static (state, token) => ((PendingAsk<TReply>)state!).Cancel(token), this);
            lock (_gate)
            {
                (_watch, _timer, _registration) = (watch, timer, registration);
                if (!_ended)
                    return;
            }

            Release(watch, timer, registration);
        }

        private void Expire() => Fail(new FabricError(
            ErrorCodes.DeadlineExceeded, $"Actor {path} did not answer within {deadline.TotalMilliseconds:0} ms."));

        private void Cancel(CancellationToken token)
        {
            if (TrySetCanceled(token))
                End();
        }

        private void End()
        {
            lock (_gate)
                _ended = true;
            Release(_watch, _timer, _registration);
        }

        private static void Release(IDisposable? watch, ITimer? timer, CancellationTokenRegistration registration)
        {
            watch?.Dispose();
            timer?.Dispose();
            registration.Unregister();
        }
    }
}
