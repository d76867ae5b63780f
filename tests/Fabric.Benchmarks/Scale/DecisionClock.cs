using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Benchmarks.Scale;

/// <summary>The five decisions of a migration that goes well.</summary>
internal enum Decided
{
    /// <summary>The claim is durable → <c>prepare-incoming</c> is sent.</summary>
    Prepare,

    /// <summary>The destination's fact says prepared → <c>start-push</c> is sent.</summary>
    Push,

    /// <summary>The source's fact says converged → <c>hand-over</c> is sent.</summary>
    HandOver,

    /// <summary>The destination's fact says complete and the source's says drained → <c>release-source</c> is sent.</summary>
    Release,

    /// <summary>The source's answer, or its fact, says released → the VM's new place is durable.</summary>
    Settle,
}

/// <summary>
/// Measures the control node from outside: from the moment when the last message that a decision needs has left its agent (facts as bytes, before they are read; or the journal's answer) to
/// the moment when the command that follows is handed to the gateway, which the supervisor does only after its event is durable. Only first times count. Any thread.
/// </summary>
internal sealed class DecisionClock(TimeProvider time)
{
    private readonly ConcurrentDictionary<MigrationId, Causes> _causes = new();
    private readonly ConcurrentQueue<(Decided What, double Ms)> _taken = new();

    internal IReadOnlyList<(Decided What, double Ms)> Taken => [.. _taken];

    /// <summary>What was measured so far does not count.</summary>
    internal void Forget() => _taken.Clear();

    internal void Claimed(MigrationId migration)
    {
        var causes = Of(migration);
        Note(ref causes.Claimed);
    }

    /// <summary>These facts leave the agent now.</summary>
    internal void Says(VmFact fact)
    {
        if (fact.Outgoing is { } outgoing)
        {
            var causes = Of(outgoing.Migration);
            if (outgoing.Phase == SourcePhase.Converged)
                Note(ref causes.Converged);
            else if (outgoing.Phase == SourcePhase.Drained)
                Note(ref causes.Drained);
            else if (outgoing.Phase == SourcePhase.Released)
                Note(ref causes.Released);
        }

        if (fact.Incoming is { } incoming)
        {
            var causes = Of(incoming.Migration);
            if (incoming.Phase == DestinationPhase.Prepared)
                Note(ref causes.Prepared);
            else if (incoming.Phase == DestinationPhase.Complete)
                Note(ref causes.Complete);
        }
    }

    internal void Answered(AgentCommand command, CommandResult result)
    {
        if (command is ReleaseSource && result.Ok && command.Header.Migration is { } migration)
        {
            var causes = Of(migration);
            Note(ref causes.Released);
        }
    }

    internal void Sends(AgentCommand command)
    {
        if (command.Header.Migration is not { } migration)
            return;
        var causes = Of(migration);
        switch (command)
        {
            case PrepareIncoming: Take(causes, Decided.Prepare, Volatile.Read(ref causes.Claimed)); break;
            case StartPush: Take(causes, Decided.Push, Volatile.Read(ref causes.Prepared)); break;
            case HandOver: Take(causes, Decided.HandOver, Both(ref causes.Converged, ref causes.Prepared)); break;
            case ReleaseSource: Take(causes, Decided.Release, Both(ref causes.Complete, ref causes.Drained)); break;
        }
    }

    internal void Settled(MigrationId migration)
    {
        var causes = Of(migration);
        Take(causes, Decided.Settle, Volatile.Read(ref causes.Released));
    }

    /// <summary>0 while one of them is missing: the decision then follows from something else, a deadline, and is not counted.</summary>
    private static long Both(ref long one, ref long other)
    {
        long first = Volatile.Read(ref one);
        long second = Volatile.Read(ref other);
        return first == 0 || second == 0 ? 0 : Math.Max(first, second);
    }

    private void Take(Causes causes, Decided what, long since)
    {
        int bit = 1 << (int)what;
        if (since != 0 && (Interlocked.Or(ref causes.Decided, bit) & bit) == 0)
            _taken.Enqueue((what, time.GetElapsedTime(since).TotalMilliseconds));
    }

    private void Note(ref long at) => Interlocked.CompareExchange(ref at, time.GetTimestamp(), 0);

    private Causes Of(MigrationId migration) => _causes.GetOrAdd(migration, static _ => new Causes());

    private sealed class Causes
    {
        public long Claimed;
        public long Prepared;
        public long Converged;
        public long Complete;
        public long Drained;
        public long Released;
        public int Decided;
    }
}
