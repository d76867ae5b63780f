using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;

namespace Fabric.Supervisor;

/// <summary>
/// One entity's stream in the journal, under one tenure. It belongs to one actor. After any exception from <see cref="AppendAsync"/> the outcome may be
/// unknown: the actor ends, and its next life reads the stream again.
/// </summary>
internal sealed class EventStream<TEvent>(IJournal journal, ShardTenure tenure, StreamId stream, EventCatalog<TEvent> catalog)
    where TEvent : class
{
    private const int ReadBatch = 256;

    public long LastSequence { get; private set; }

    /// <summary>All events, in order.</summary>
    /// <exception cref="FabricException">store-failed; corrupt or unsupported, naming stream and sequence: the data is kept as it is.</exception>
    public async Task<IReadOnlyList<TEvent>> LoadAsync(CancellationToken cancellation)
    {
        var events = new List<TEvent>();
        LastSequence = 0;
        while (true)
        {
            var records = await journal.ReadAsync(stream, LastSequence, ReadBatch, cancellation);
            foreach (var record in records)
            {
                var (happened, error) = Decode(record);
                if (error is not null)
                    throw new FabricException(error);
                events.Add(happened!);
                LastSequence = record.Sequence;
            }

            if (records.Count < ReadBatch)
                return events;
        }
    }

    /// <summary>Makes the events durable, all or none. Nothing that follows from them may be done before this returns.</summary>
    /// <exception cref="FabricException">refused-by-epoch: the shard is lost (the tenure is ended); conflict: somebody else wrote; store-failed: unknown (the tenure is ended).</exception>
    public async Task AppendAsync(IReadOnlyList<TEvent> events, CancellationToken cancellation)
    {
        if (!tenure.Held)
            throw Fenced();
        var written = events.Select(catalog.Encode).Select(static e => new NewEvent(e.Kind, e.Version, e.Payload)).ToList();
        JournalRefusal refusal;
        try
        {
            refusal = await journal.AppendAsync(tenure.Lease, stream, LastSequence, written, cancellation);
        }
        catch (Exception unknown) when (unknown is OperationCanceledException or FabricException { Error.Code: ErrorCodes.StoreFailed })
        {
            // It may still be on its way and land after this actor's next life has read the stream, which would never know of it. Under the next tenure what comes late is refused.
            tenure.End();
            throw;
        }

        switch (refusal)
        {
            case JournalRefusal.None:
                LastSequence += events.Count;
                return;
            case JournalRefusal.SequenceConflict:
                throw new FabricException(ErrorCodes.Conflict, $"Stream '{stream}' is not at {LastSequence}: somebody else wrote to it, or an append was not answered.", "It is read again.");
            default:
                tenure.End();
                throw Fenced();
        }
    }

    private (TEvent? Event, FabricError? Error) Decode(JournalRecord record)
    {
        if (record.Sequence != LastSequence + 1)
            return (null, new FabricError(ErrorCodes.Corrupt, $"Stream '{stream}' jumps from event {LastSequence} to {record.Sequence}.", "The data is kept as it is; restore the journal from a copy."));
        var decoded = catalog.Decode(record.Kind, record.Version, record.Payload);
        return (decoded.Event, decoded.Error is not { } error ? null : error with { Message = $"Stream '{stream}', event {record.Sequence}: {error.Message}" });
    }

    private FabricException Fenced() =>
        new(ErrorCodes.RefusedByEpoch, $"Shard {tenure.Shard.Value} is no longer held at epoch {tenure.Epoch}.", "Another control node, or a later life of this one, owns it.");
}
