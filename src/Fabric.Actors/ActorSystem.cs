using System.Collections.Concurrent;
using Fabric.Core;
using Microsoft.Extensions.Logging;

namespace Fabric.Actors;

/// <summary>
/// The tree of actors of one process and what they share: a clock, a source of randomness, a place to run, a log.
/// All members may be called by any thread.
/// </summary>
public sealed partial class ActorSystem : IAsyncDisposable, IActorParent
{
    private const int MaxNameLength = 200;

    private readonly ConcurrentDictionary<string, ActorCell> _roots = new(StringComparer.Ordinal);

    // Random is not thread-safe; every actor gets its own, drawn under this lock at its birth.
    private readonly Lock _randomGate = new();
    private readonly Random _random;
    private volatile bool _stopping;

    public ActorSystem(TimeProvider time, Random random, IDispatcher dispatcher, ILoggerFactory loggers)
    {
        ArgumentNullException.ThrowIfNull(time);
        ArgumentNullException.ThrowIfNull(random);
        ArgumentNullException.ThrowIfNull(dispatcher);
        ArgumentNullException.ThrowIfNull(loggers);
        Time = time;
        _random = random;
        Dispatcher = dispatcher;
        Log = loggers.CreateLogger("Fabric.Actors");
        WorkContext = new DispatcherContext(dispatcher);
    }

    public TimeProvider Time { get; }

    /// <summary>How long an actor waits for its children when it ends; those that run on after it are left behind, with a line in the log.</summary>
    public TimeSpan ChildStopDeadline { get; init; } = TimeSpan.FromSeconds(10);

    internal IDispatcher Dispatcher { get; }

    internal ILogger Log { get; }

    internal DispatcherContext WorkContext { get; }

    /// <summary>Starts an actor at the root: <c>/name</c>.</summary>
    /// <exception cref="FabricException">already-exists; invalid-argument for a name; conflict while the system stops.</exception>
    public IActorRef<TMessage> Spawn<TMessage>(string name, Func<Actor<TMessage>> create, ActorOptions? options = null)
        where TMessage : class
    {
        ArgumentNullException.ThrowIfNull(create);
        RequireName(name);
        var cell = new ActorCell<TMessage>(this, this, $"/{name}", name, create, options ?? ActorOptions.Default);
        if (!_roots.TryAdd(name, cell))
            throw new FabricException(ErrorCodes.AlreadyExists, $"There is an actor /{name} already.", "Wait for its end first.");

        // Looked at after the actor is listed: either StopAsync finds it there, or this sees that the system stops.
        if (_stopping)
        {
            cell.PostStop();
            cell.Start();
            throw new FabricException(ErrorCodes.Conflict, $"The actor system stops and takes no actor /{name}.");
        }

        cell.Start();
        return cell;
    }

    /// <summary>Stops one actor and, before it, its children. Idempotent.</summary>
    /// <exception cref="FabricException">deadline-exceeded: it still runs.</exception>
    public Task StopAsync(IActorRef actor, TimeSpan deadline)
    {
        var cell = actor as ActorCell ?? throw new ArgumentException("The reference is not of an actor of this kernel.", nameof(actor));
        return StopAsync([cell], deadline);
    }

    /// <summary>Stops every actor, children before parents; no new one is taken. Idempotent.</summary>
    /// <exception cref="FabricException">deadline-exceeded, naming those that still run.</exception>
    public Task StopAsync(TimeSpan deadline)
    {
        _stopping = true;
        return StopAsync(_roots.Values.OrderBy(cell => cell.Name, StringComparer.Ordinal).ToArray(), deadline);
    }

    public async ValueTask DisposeAsync() => await StopAsync(ChildStopDeadline * 2);

    void IActorParent.ChildTerminated(ActorCell child) => _roots.TryRemove(new KeyValuePair<string, ActorCell>(child.Name, child));

    void IActorParent.ChildFailed(ActorCell child, Exception failure) => LogRootFailed(Log, failure, child.Path);

    internal Random NewRandom()
    {
        lock (_randomGate)
#pragma warning disable CA5394 // Jitter, not secrets.
            return new Random(_random.Next());
#pragma warning restore CA5394
    }

    internal static void RequireName(string name)
    {
        if (string.IsNullOrEmpty(name) || name.Length > MaxNameLength || name.Any(c => c == '/' || char.IsControl(c)))
        {
            throw new FabricException(
                ErrorCodes.InvalidArgument,
                $"'{Label.Shorten(name)}' is not an actor's name.",
                $"Use 1 to {MaxNameLength} characters without '/' and control characters.");
        }
    }

    private Task StopAsync(ActorCell[] cells, TimeSpan deadline)
    {
        var pending = new PendingStop(cells, deadline);
        pending.Begin(Time);
        return pending.Task;
    }

    [LoggerMessage(Level = LogLevel.Critical, Message = "Root actor {Path} escalated its failure; nobody is above it. It stops.")]
    private static partial void LogRootFailed(ILogger log, Exception exception, string path);

    /// <summary>Counts the ends of some actors against a deadline, without an async method: complete at the last end itself.</summary>
    private sealed class PendingStop(ActorCell[] cells, TimeSpan deadline) : TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)
    {
        private int _left = cells.Length;

        internal void Begin(TimeProvider time)
        {
            if (cells.Length == 0)
            {
                SetResult();
                return;
            }

            var timer = time.CreateTimer(static state => ((PendingStop)state!).Expire(), this, deadline, Timeout.InfiniteTimeSpan);
            foreach (var cell in cells)
            {
                cell.OnTerminated(() =>
                {
                    if (Interlocked.Decrement(ref _left) != 0)
                        return;
                    timer.Dispose();
                    TrySetResult();
                });
                cell.PostStop();
            }
        }

        private void Expire()
        {
            var running = cells.Where(cell => !cell.Terminated.IsCompleted).Select(cell => cell.Path).Take(16).ToArray();
            if (running.Length > 0)
            {
                TrySetException(new FabricException(
                    ErrorCodes.DeadlineExceeded, $"Actors did not stop within {deadline.TotalSeconds:0.#} s: {string.Join(", ", running)}."));
            }
        }
    }
}
