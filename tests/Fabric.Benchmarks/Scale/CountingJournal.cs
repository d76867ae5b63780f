using System.Collections.Concurrent;
using System.Text.Json;
using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Benchmarks.Scale;

/// <summary>The control node's journal with a count of what is durable: appends with their times, claims and settlements of migrations.</summary>
internal sealed class CountingJournal(IJournal inner, DecisionClock clock, TimeProvider time) : ForwardingJournal
{
    private readonly ConcurrentQueue<double> _appends = new();
    private int _moving;
    private int _mostMoving;
    private int _claims;
    private int _settled;

    protected override IJournal Inner => inner;

    /// <summary>Milliseconds of each append, from the call to the durable answer.</summary>
    internal IReadOnlyList<double> AppendMs => [.. _appends];

    internal int Appends => _appends.Count;

    internal int Claims => Volatile.Read(ref _claims);

    internal int Settlements => Volatile.Read(ref _settled);

    /// <summary>Migrations claimed and not yet settled, by durable events, that there were at once.</summary>
    internal int MostMoving => Volatile.Read(ref _mostMoving);

    public override async Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        long asked = time.GetTimestamp();
        var refusal = await inner.AppendAsync(lease, stream, lastSequence, events, request, cancellation).ConfigureAwait(false); // counted when it is durable, not when the actor has time
        _appends.Enqueue(time.GetElapsedTime(asked).TotalMilliseconds);
        if (refusal == JournalRefusal.None)
        {
            foreach (var happened in events)
                Count(happened);
        }

        return refusal;
    }

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask; // its opener's

    private void Count(NewEvent happened)
    {
        switch (happened.Kind)
        {
            case "migration-claimed":
                clock.Claimed(Migration(happened, "plan", "id"));
                Interlocked.Increment(ref _claims);
                int now = Interlocked.Increment(ref _moving);
                int most = Volatile.Read(ref _mostMoving);
                while (now > most && Interlocked.CompareExchange(ref _mostMoving, now, most) is var was && was != most)
                    most = was;
                break;
            case "migration-settled":
                clock.Settled(Migration(happened, "migration"));
                Interlocked.Increment(ref _settled);
                Interlocked.Decrement(ref _moving);
                break;
        }
    }

    private static MigrationId Migration(NewEvent happened, params ReadOnlySpan<string> path)
    {
        using var document = JsonDocument.Parse(happened.Payload);
        var element = document.RootElement;
        foreach (string name in path)
            element = element.GetProperty(name);
        return MigrationId.Parse(element.GetString()!);
    }
}
