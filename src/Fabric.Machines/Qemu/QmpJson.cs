using System.Text.Json;

namespace Fabric.Machines.Qemu;

/// <summary>Reads members of QEMU's answers without trusting their shape: a wrong kind is the same as absent.</summary>
internal static class QmpJson
{
    internal static long? Number(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var member)
        && member.ValueKind == JsonValueKind.Number && member.TryGetInt64(out long value)
            ? value
            : null;

    internal static string? Text(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var member) && member.ValueKind == JsonValueKind.String
            ? member.GetString()
            : null;

    internal static JsonElement? Object(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var member) && member.ValueKind == JsonValueKind.Object
            ? member
            : null;

    /// <summary>A moment as QEMU writes it: an object of seconds since 1970 and microseconds.</summary>
    internal static DateTimeOffset? Moment(JsonElement element, string name)
    {
        const long LatestSecond = 253_402_300_799;
        return Object(element, name) is { } moment && Number(moment, "seconds") is >= 0 and <= LatestSecond and var seconds
            && Number(moment, "microseconds") is >= 0 and < 1_000_000 and var micros
                ? DateTimeOffset.FromUnixTimeSeconds(seconds).AddMicroseconds(micros)
                : null;
    }
}
