using System.Collections.Immutable;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor.Batches;

internal enum ItemPhase
{
    Waiting,
    Migrating,
    Moved,
    Failed,

    /// <summary>It had no place from the beginning.</summary>
    Stays,
}

internal sealed record BatchItem(VmName Vm, HostName? Destination, ItemPhase Phase, MigrationId? Migration, FabricError? Why, ImmutableHashSet<HostName> Tried)
{
    public bool Over => Phase is ItemPhase.Moved or ItemPhase.Failed or ItemPhase.Stays;
}

/// <summary>What the events of one batch add up to. <paramref name="EndedAt"/>: null while it runs.</summary>
internal sealed record BatchState(BatchPlan Plan, ImmutableList<BatchItem> Items, DateTimeOffset? EndedAt)
{
    public static BatchState Of(BatchPlan plan) => new(plan, [.. plan.Placements.Select(Item)], null);

    public bool Over => Items.All(static item => item.Over);

    public string Word => EndedAt is null
        ? "running"
        : Items.All(static item => item.Phase == ItemPhase.Moved) ? "done" : Items.Any(static item => item.Phase == ItemPhase.Moved) ? "partly-done" : "failed";

    /// <exception cref="FabricException">corrupt: the event does not follow from the state.</exception>
    public static BatchState? Apply(BatchState? state, BatchEvent happened) => (state, happened) switch
    {
        (null, BatchPlanned e) => Of(e.Plan),
        ({ EndedAt: null }, ItemStarted e) => state.With(e.Vm, happened, ItemPhase.Waiting, item => item with
        {
            Phase = ItemPhase.Migrating,
            Destination = e.Destination,
            Migration = e.Migration,
            Tried = item.Tried.Add(e.Destination),
        }),
        ({ EndedAt: null }, ItemPlacedAnew e) => state.With(e.Vm, happened, null, item => item with
        {
            Phase = ItemPhase.Waiting,
            Destination = e.Destination,
            Why = e.Because,
            Tried = item.Destination is { } failed ? item.Tried.Add(failed) : item.Tried,
        }),
        ({ EndedAt: null }, ItemMoved e) => state.With(e.Vm, happened, null, static item => item with { Phase = ItemPhase.Moved, Why = null }),
        ({ EndedAt: null }, ItemFailed e) => state.With(e.Vm, happened, null, item => item with { Phase = ItemPhase.Failed, Why = e.Why }),
        ({ EndedAt: null, Over: true }, BatchEnded e) => state with { EndedAt = e.At },
        _ => throw Unfit(state, happened),
    };

    private BatchState With(VmName vm, BatchEvent happened, ItemPhase? from, Func<BatchItem, BatchItem> change)
    {
        int index = Items.FindIndex(item => item.Vm == vm);
        if (index < 0 || Items[index].Over || (from is { } phase && Items[index].Phase != phase))
            throw Unfit(this, happened);
        return this with { Items = Items.SetItem(index, change(Items[index])) };
    }

    private static BatchItem Item(Placement placement) => placement.Destination is { } destination
        ? new BatchItem(placement.Vm, destination, ItemPhase.Waiting, null, null, [])
        : new BatchItem(placement.Vm, null, ItemPhase.Stays, null, placement.Why, []);

    private static FabricException Unfit(BatchState? state, BatchEvent happened) => new(
        ErrorCodes.Corrupt, $"Batch '{state?.Plan.Id}' ({state?.Word ?? "unborn"}) cannot take the event '{BatchEvents.Catalog.KindOf(happened)}'.", "The data is kept as it is; restore the journal from a copy.");
}
