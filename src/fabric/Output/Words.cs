using System.Globalization;
using Fabric.Core;

namespace Fabric.Cli.Output;

/// <summary>Numbers and absent values as people read them.</summary>
internal static class Words
{
    public const string None = "-";

    public static string Bytes(long? bytes) => bytes is { } known ? ByteSize.Format(known) : None;

    public static string Rate(long? bytesPerSecond) => bytesPerSecond is { } known ? ByteSize.Format(known) + "/s" : None;

    public static string Millis(double? millis) => millis switch
    {
        null => None,
        < 100 => string.Create(CultureInfo.InvariantCulture, $"{millis:0.0} ms"),
        < 10_000 => string.Create(CultureInfo.InvariantCulture, $"{millis:0} ms"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{millis / 1000:0.0} s"),
    };

    public static string Seconds(double? seconds) => seconds switch
    {
        null => None,
        < 60 => string.Create(CultureInfo.InvariantCulture, $"{seconds:0.0} s"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{(int)(seconds / 60)} min {seconds % 60:00} s"),
    };

    public static string Percent(double? percent) => percent is { } known ? string.Create(CultureInfo.InvariantCulture, $"{known:0} %") : None;

    public static string YesNo(bool? value) => value switch
    {
        true => "yes",
        false => "NO",
        null => None,
    };

    public static string Number(long? value) => value?.ToString(CultureInfo.InvariantCulture) ?? None;

    /// <summary>Enough of an id to be unique among some thousands: 12 of the 32 digits, since the first ones are the time.</summary>
    public static string ShortId(MigrationId id) => id.ToString()[..12];

    /// <summary>A stream with an id in it, as people write ids.</summary>
    public static string ShortStream(string stream)
    {
        int slash = stream.IndexOf('/', StringComparison.Ordinal);
        return slash >= 0 && stream.Length - slash > 25 ? stream[..(slash + 13)] : stream;
    }

    /// <summary>The reason that an event gives, or what it says of where things went.</summary>
    public static string Why(Fabric.Wire.Api.EventReport happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        foreach (string name in new[] { "cause", "why", "because", "reason", "proof", "kind", "host" })
        {
            if (happened.Data.ValueKind != System.Text.Json.JsonValueKind.Object || !happened.Data.TryGetProperty(name, out var said))
                continue;
            if (said.ValueKind == System.Text.Json.JsonValueKind.String)
                return said.GetString()!;
            if (said.ValueKind == System.Text.Json.JsonValueKind.Object && said.TryGetProperty("message", out var message) && message.ValueKind == System.Text.Json.JsonValueKind.String)
                return message.GetString()!;
        }

        return None;
    }

    public static string Ago(DateTimeOffset? moment, TimeProvider time) => moment is { } known ? Seconds(Math.Max(0, (time.GetUtcNow() - known).TotalSeconds)) + " ago" : None;

    /// <summary>The name of an enumeration's value in the API: <c>pre-copy</c>.</summary>
    public static string Name<T>(T value)
        where T : struct, Enum
    {
        string member = value.ToString();
        return typeof(T).GetField(member)?.GetCustomAttributes(typeof(System.Text.Json.Serialization.JsonStringEnumMemberNameAttribute), false)
            .OfType<System.Text.Json.Serialization.JsonStringEnumMemberNameAttribute>().FirstOrDefault()?.Name ?? member;
    }

    /// <exception cref="FabricException">invalid-argument, naming what is accepted.</exception>
    public static T Parse<T>(string text, string option)
        where T : struct, Enum
    {
        foreach (var value in Enum.GetValues<T>())
        {
            if (Name(value) == text)
                return value;
        }

        throw new FabricException(ErrorCodes.InvalidArgument, $"{option} '{Label.Shorten(text)}' is not known.", "Use " + string.Join(", ", Enum.GetValues<T>().Select(Name)) + ".");
    }
}
