using System.Globalization;
using System.Text.Json;
using YamlDotNet.Serialization;

namespace Fabric.Cli.Output;

/// <summary>The same data as the JSON output, written as YAML. Text that YAML would read as something else is quoted.</summary>
internal static class YamlText
{
    public static string Of(JsonElement element) =>
        new SerializerBuilder().WithQuotingNecessaryStrings().Build().Serialize(Plain(element));

    private static object? Plain(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => element.EnumerateObject().ToDictionary(p => p.Name, p => Plain(p.Value), StringComparer.Ordinal),
        JsonValueKind.Array => element.EnumerateArray().Select(Plain).ToList(),
        JsonValueKind.String => element.GetString(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Number => element.TryGetInt64(out long whole) ? whole : double.Parse(element.GetRawText(), CultureInfo.InvariantCulture),
        _ => null,
    };
}
