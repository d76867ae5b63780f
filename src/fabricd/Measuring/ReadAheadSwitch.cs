using System.Collections.Frozen;
using System.Text.Json;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Daemon.Measuring;

/// <summary>
/// For benchmarks only: under the page orders that FABRIC_WITHOUT_READ_AHEAD names (<c>push-only,forward</c>) a page that the guest waits for goes alone, as in the literature. Unset in production.
/// </summary>
internal static class ReadAheadSwitch
{
    public const string Variable = "FABRIC_WITHOUT_READ_AHEAD";

    /// <param name="text">Names with commas between them; null or empty: none.</param>
    /// <exception cref="FabricException">invalid-argument: there is no such order.</exception>
    public static FrozenSet<PageOrder> Read(string? text) =>
        (text ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(Named).ToFrozenSet();

    private static PageOrder Named(string name)
    {
        var names = Enum.GetValues<PageOrder>().ToDictionary(static o => JsonSerializer.Serialize(o).Trim('"'), StringComparer.Ordinal);
        return names.TryGetValue(name, out var order)
            ? order
            : throw new FabricException(ErrorCodes.InvalidArgument, $"{Variable}: there is no page order '{Label.Shorten(name)}'.", $"Unset it, or use some of {string.Join(", ", names.Keys)}.");
    }
}
