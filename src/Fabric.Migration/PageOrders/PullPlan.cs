using Fabric.Core;

namespace Fabric.Migration.PageOrders;

/// <summary>How a migration's pull phase is to push: what <see cref="MigrationOptions"/> says of it.</summary>
/// <param name="Order">Which variant.</param>
/// <param name="Pivots">Pivots alive, 1 to <see cref="Limits.Pivots"/>; only the multi-pivot variants look at it.</param>
public sealed record PullPlan(PageOrder Order = PageOrder.DualMulti, int Pivots = PullPlan.PaperPivots)
{
    /// <summary>The number that the paper found best (Hines, Deshpande, Gopalan, VEE'09, section 3.2).</summary>
    public const int PaperPivots = 7;

    public static PullPlan Default { get; } = new();

    /// <summary>Whether a <see cref="WriteHistory"/> is of use.</summary>
    public bool UsesHistory => Order is PageOrder.PushOnlyLru or PageOrder.ForwardLru or PageOrder.DualLru or PageOrder.ForwardMultiLru or PageOrder.DualMultiLru;

    private BubbleShape Shape => Order switch
    {
        PageOrder.PushOnly or PageOrder.PushOnlyLru => BubbleShape.PushOnly,
        PageOrder.Forward or PageOrder.ForwardLru => BubbleShape.SinglePivot(dual: false),
        PageOrder.Dual or PageOrder.DualLru => BubbleShape.SinglePivot(dual: true),
        PageOrder.ForwardMulti or PageOrder.ForwardMultiLru => BubbleShape.MultiPivot(dual: false, Pivots),
        PageOrder.DualMulti or PageOrder.DualMultiLru => BubbleShape.MultiPivot(dual: true, Pivots),
        _ => throw new InvalidOperationException($"There is no page order {Order}."),
    };

    /// <summary>Makes the order for one pull phase. Reads the maps once; all memory is taken here.</summary>
    /// <param name="remaining">What the destination lacks. The order clears what it claims in it; others may, too.</param>
    /// <param name="spare">A map of the same length that nobody else uses any more: it is overwritten. Null: one is made if it is needed.</param>
    /// <param name="hot">Pages that the guest is known to be about to use: they go first, those of the first map before the others. Not written to while the order lives. Null: none known.</param>
    /// <param name="history">For the LRU variants; the others ignore it. Not added to while the order lives. Null: none known.</param>
    public IPageOrder Begin(PageBitmap remaining, PageBitmap? spare = null, IReadOnlyList<PageBitmap>? hot = null, WriteHistory? history = null)
    {
        ArgumentNullException.ThrowIfNull(remaining);
        List<PageBitmap> recent = [.. hot ?? []];
        if (UsesHistory && history is not null)
            recent.AddRange(history.NewestFirst());
        return new BubbleOrder(remaining, Shape, recent, spare);
    }
}
