// The entities of one kind in one shard: made when they are asked for, and laid to rest when nobody has wanted them for a while. What an entity knows is in the journal and on the board,
// so one that rests costs nothing but a read when it is wanted again.
//
//   wanted ──▶ made ──▶ lives, used by n askers ──n = 0 for a while──▶ asked to rest ──idle──▶ ends ──▶ forgotten ──(wanted meanwhile)──▶ made anew
//                            ▲                                              │
//                            └───────────────────busy───────────────────────┘
//
// No message is lost: an entity is told something only by those who hold a use of it, and it is asked to rest only when there are none. Who wants it while it is asked waits for its
// answer. An offer to rest that was not answered in time is withdrawn, and an entity that finds it withdrawn lives on.
using Fabric.Actors;
using Fabric.Core;

namespace Fabric.Supervisor.Shards;

/// <summary>A question whether an entity is idle, and its permission to end. Taken or withdrawn, whichever comes first.</summary>
internal sealed class RestOffer
{
    private int _decided;

    /// <summary>The entity ends; false: it was too late.</summary>
    public bool Take() => Interlocked.Exchange(ref _decided, 1) == 0;

    /// <summary>The entity's answer. True: it is idle and was in time, and must end now.</summary>
    public bool Answer(bool idle, IReply<bool> reply)
    {
        bool rests = idle && Take();
        reply.Succeed(rests);
        return rests;
    }

    /// <summary>The entity lives on; false: it has taken the offer.</summary>
    public bool Withdraw() => Interlocked.Exchange(ref _decided, 1) == 0;
}

/// <summary>An entity that may be told something until this is disposed. Any thread.</summary>
internal sealed class EntityUse<TMessage>(IActorRef<TMessage> entity, Action done) : IDisposable
    where TMessage : class
{
    private int _disposed;

    public IActorRef<TMessage> Entity => entity;

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
            done();
    }
}

/// <summary>Touched by the shard's actor alone, but for the counts of uses.</summary>
/// <param name="time">For how long an entity was not wanted.</param>
/// <param name="longestUse">A use that is older was lost with its asker.</param>
internal sealed class EntityFamily<TKey, TMessage>(TimeProvider time, TimeSpan longestUse)
    where TKey : notnull
    where TMessage : class
{
    /// <summary>Askers that wait for one entity to say whether it rests; more are refused.</summary>
    private const int MostWaiting = 64;

    private readonly Dictionary<TKey, Entry> _entries = [];

    /// <summary>The entity, made if it is not there. For the shard's own turn: whoever keeps it longer asks for a use.</summary>
    public IActorRef<TMessage> Of(TKey key, Func<IActorRef<TMessage>> make) => Wanted(key, make).Entity;

    /// <summary>Answers with a use of the entity, as soon as it is certain that it lives.</summary>
    public void Want(TKey key, Func<IActorRef<TMessage>> make, IReply<EntityUse<TMessage>> reply)
    {
        if (_entries.TryGetValue(key, out var resting) && resting.Waiting is { } waiting)
        {
            if (waiting.Count >= MostWaiting)
                reply.Fail(new FabricError(ErrorCodes.Exhausted, $"{MostWaiting} requests wait for '{key}' already.", "Try again."));
            else
                waiting.Add((make, reply));
            return;
        }

        reply.Succeed(Use(Wanted(key, make)));
    }

    /// <summary>Tells an entity that is not asked to rest; otherwise the message is dropped. For what is said again and again.</summary>
    public void Mention(TKey key, Func<IActorRef<TMessage>> make, TMessage message)
    {
        if (!_entries.TryGetValue(key, out var entry) || entry.Waiting is null)
            Of(key, make).TryTell(message);
    }

    /// <summary>At most <paramref name="most"/> entities that nobody has wanted for so long; each is to be asked to rest, and the answer given to <see cref="Answered"/>.</summary>
    public IReadOnlyList<(TKey Key, IActorRef<TMessage> Entity)> Unwanted(TimeSpan since, int most)
    {
        var chosen = _entries.Where(known => known.Value.Waiting is null && IsUnwanted(known.Value, since)).Take(most).Select(static known => (known.Key, known.Value.Entity)).ToList();
        foreach (var (key, _) in chosen)
            _entries[key].Waiting = [];
        return chosen;
    }

    /// <summary>What the entity said: it has ended (<paramref name="rests"/>), or lives on.</summary>
    public void Answered(TKey key, bool rests)
    {
        if (!_entries.TryGetValue(key, out var entry) || entry.Waiting is not { } waiting)
            return;
        entry.Waiting = null;
        if (rests)
            _entries.Remove(key);
        else
            entry.WantedAt = time.GetTimestamp(); // not asked again at once
        foreach (var (make, reply) in waiting)
            Want(key, make, reply);
    }

    private Entry Wanted(TKey key, Func<IActorRef<TMessage>> make)
    {
        if (!_entries.TryGetValue(key, out var entry))
            _entries[key] = entry = new Entry(make());
        entry.WantedAt = time.GetTimestamp();
        return entry;
    }

    private bool IsUnwanted(Entry entry, TimeSpan since)
    {
        var unwanted = time.GetElapsedTime(entry.WantedAt);
        return unwanted >= since && (Volatile.Read(ref entry.Uses) == 0 || unwanted >= longestUse);
    }

    private static EntityUse<TMessage> Use(Entry entry)
    {
        Interlocked.Increment(ref entry.Uses);
        return new EntityUse<TMessage>(entry.Entity, () => Interlocked.Decrement(ref entry.Uses));
    }

    private sealed class Entry(IActorRef<TMessage> entity)
    {
        public int Uses;

        public IActorRef<TMessage> Entity => entity;

        public long WantedAt { get; set; }

        /// <summary>Not null while the entity is asked to rest: those who want it meanwhile.</summary>
        public List<(Func<IActorRef<TMessage>> Make, IReply<EntityUse<TMessage>> Reply)>? Waiting { get; set; }
    }
}
