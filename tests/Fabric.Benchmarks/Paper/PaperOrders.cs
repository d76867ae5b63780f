using Fabric.Cli.Output;
using Fabric.Migration;

namespace Fabric.Benchmarks.Paper;

/// <summary>
/// Which page orders are measured, and how. The paper's run as the paper has them: a page that the guest waits for goes alone, and the order decides about the rest. Fabric's own is its default with
/// read-ahead. A daemon is told so when it starts (FABRIC_WITHOUT_READ_AHEAD), so that one cluster and one guest serve all, in turn.
/// </summary>
internal static class PaperOrders
{
    /// <summary>What Fabric does unless it is asked for something else.</summary>
    internal const PageOrder Own = PageOrder.DualMulti;

    private const string Variable = "FABRIC_WITHOUT_READ_AHEAD";

    private static readonly IReadOnlyList<PageOrder> Alone =
        [PageOrder.PushOnly, PageOrder.Forward, PageOrder.Dual, PageOrder.ForwardMulti, PageOrder.DualLru, PageOrder.DualMultiLru];

    /// <summary>In a pull without a push before it there is no history, so that dual-multi-lru is the paper's dual multi-pivot.</summary>
    internal static IReadOnlyList<PageOrder> Sequential { get; } = [PageOrder.PushOnly, PageOrder.DualMultiLru, Own];

    internal static IReadOnlyList<PageOrder> Quicksort { get; } = [.. Alone, Own];

    internal static IReadOnlyDictionary<string, string> Environment { get; } = new Dictionary<string, string>(StringComparer.Ordinal) { [Variable] = string.Join(',', Alone.Select(Words.Name)) };

    internal static string NameOf(PageOrder order) => order == Own ? $"{Words.Name(order)} + read-ahead" : Words.Name(order);
}
