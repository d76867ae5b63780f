using Fabric.Journal;

namespace Fabric.Daemon.Steps;

/// <summary>Every event passes the gate before it is appended and after it is durable. Owns the journal behind it.</summary>
internal sealed class SteppedJournal(IJournal inner, StepGate gate) : ForwardingJournal
{
    protected override IJournal Inner => inner;

    public override async Task<JournalRefusal> AppendAsync(
        ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request, CancellationToken cancellation)
    {
        foreach (var happened in events)
            gate.Pass("before", happened.Kind, stream.Value);
        var refusal = await inner.AppendAsync(lease, stream, lastSequence, events, request, cancellation);
        if (refusal == JournalRefusal.None)
        {
            foreach (var happened in events)
                gate.Pass("after", happened.Kind, stream.Value);
        }

        return refusal;
    }

    public override ValueTask DisposeAsync() => inner.DisposeAsync();
}
