using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Host;

/// <summary>
/// What is true on this host, with a version that rises at each change. Written by the VMs' actors, read by anyone; one short lock.
/// A reader that waits is woken by the next change, at once if it is more than numbers. Numbers rise a few times a second for each migration, and every answer holds all VMs:
/// they wait until the poll has lasted <see cref="NumbersPeriod"/>, or something else takes them along. What is true only while a guest is being handed over waits for <see cref="FleetingPeriod"/>: nearly
/// always something else is true by then, and whoever is told would answer, decide and journal on processors that the guest is waiting for.
/// </summary>
internal sealed class FactsBoard(TimeProvider time)
{
    internal static readonly TimeSpan NumbersPeriod = TimeSpan.FromSeconds(1);

    /// <summary>Longer than a hand-over, shorter than anything that a supervisor waits for.</summary>
    internal static readonly TimeSpan FleetingPeriod = TimeSpan.FromMilliseconds(100);

    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, VmFact> _facts = new(StringComparer.Ordinal);
    private long _version = 1;
    private long _pressing = 1; // the version of the last change that was more than numbers
    private long _fleeting; // of the first change since then that will not be true for long
    private long _fleetingSince;
    private TaskCompletionSource _changed = NewSignal();

    internal void Publish(VmName vm, VmFact? fact)
    {
        TaskCompletionSource woken;
        lock (_lock)
        {
            _facts.TryGetValue(vm.Value, out var known);
            if (known == fact)
                return;
            if (fact is null)
                _facts.Remove(vm.Value);
            else
                _facts[vm.Value] = fact;
            _version++;
            if (known is not null && fact is not null && IsFleeting(known, fact))
            {
                if (_fleeting <= _pressing)
                    (_fleeting, _fleetingSince) = (_version, time.GetTimestamp());
            }
            else if (known is null || fact is null || !SameButNumbers(known, fact))
            {
                _pressing = _version;
            }

            woken = _changed;
            _changed = NewSignal();
        }

        woken.SetResult();
    }

    internal async Task<(long Version, IReadOnlyList<VmFact> Facts)> WaitAsync(long after, TimeSpan wait, CancellationToken cancellation)
    {
        long begun = time.GetTimestamp();
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                var most = _version > after && NumbersPeriod < wait ? NumbersPeriod : wait;
                var left = most - time.GetElapsedTime(begun);
                if (_fleeting > Math.Max(_pressing, after) && FleetingPeriod - time.GetElapsedTime(_fleetingSince) is var soon && soon < left)
                {
                    if (soon <= TimeSpan.Zero)
                        _pressing = _version;
                    left = soon;
                }

                if (_pressing > after || left <= TimeSpan.Zero)
                    return (_version, [.. _facts.Values]);
                // Timers count whole milliseconds and cut off the rest: a wait of less would end at once, again and again, until the clock has moved.
                changed = _changed.Task.WaitAsync(TimeSpan.FromMilliseconds(Math.Ceiling(left.TotalMilliseconds)), time, cancellation);
            }

            try
            {
                await changed;
            }
            catch (TimeoutException)
            {
                // The next turn of the loop answers with what there is.
            }
        }
    }

    /// <summary>A step of a hand-over that goes well: the guest stands, and its machine lives.</summary>
    private static bool IsFleeting(VmFact known, VmFact fact) =>
        fact.State != VmRunState.Exited && known.Note == fact.Note
        && (fact.Outgoing is { Phase: SourcePhase.HandingOver or SourcePhase.TokenSent } || fact.Incoming is { Phase: DestinationPhase.Ready });

    /// <summary>
    /// True if the two differ in nothing but numbers that go on rising. Those of a phase in which nothing is copied any more are the last ones: the record of the migration waits for them.
    /// Called some times a second for each migration: one copy, made only when the numbers differ.
    /// </summary>
    private static bool SameButNumbers(VmFact known, VmFact fact)
    {
        var outgoing = known.Outgoing;
        if (outgoing is { Phase: SourcePhase.Pushing or SourcePhase.Converged or SourcePhase.HandedOver } && fact.Outgoing is { } pushed && outgoing.Phase == pushed.Phase)
            outgoing = outgoing with { Stats = pushed.Stats };
        var incoming = known.Incoming;
        if (incoming is { Phase: DestinationPhase.Preparing or DestinationPhase.Prepared or DestinationPhase.Pulling or DestinationPhase.PullBroken }
            && fact.Incoming is { } pulled && incoming.Phase == pulled.Phase)
        {
            incoming = incoming with { Stats = pulled.Stats };
        }

        return fact == known with { Outgoing = outgoing, Incoming = incoming };
    }

    // Completed by an actor's turn, where the runtime runs no foreign continuation in place: it goes to the waiter's own context, or to the pool. The flag
    // would send it over the pool in any case, and off the thread of a simulation.
    private static TaskCompletionSource NewSignal() => new();
}
