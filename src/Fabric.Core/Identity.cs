using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Fabric.Core;

/// <summary>A VM's name: 1–63 characters of <c>a-z 0-9 -</c>, beginning and ending with a letter or digit (DNS label).</summary>
[JsonConverter(typeof(VmNameJsonConverter))]
public readonly record struct VmName
{
    private readonly string? _value;

    private VmName(string value) => _value = value;

    public string Value => _value ?? throw new InvalidOperationException("An empty VmName was used.");

    public static bool TryParse([NotNullWhen(true)] string? text, out VmName name)
    {
        name = Label.IsValid(text) ? new VmName(text) : default;
        return name._value is not null;
    }

    /// <exception cref="FabricException">invalid-argument: the text is not a DNS label.</exception>
    public static VmName Parse(string? text) => TryParse(text, out var name) ? name : throw Label.Refuse("VM name", text);

    public override string ToString() => _value ?? "";
}

/// <summary>A host's name; same rules as <see cref="VmName"/>.</summary>
[JsonConverter(typeof(HostNameJsonConverter))]
public readonly record struct HostName
{
    private readonly string? _value;

    private HostName(string value) => _value = value;

    public string Value => _value ?? throw new InvalidOperationException("An empty HostName was used.");

    public static bool TryParse([NotNullWhen(true)] string? text, out HostName name)
    {
        name = Label.IsValid(text) ? new HostName(text) : default;
        return name._value is not null;
    }

    /// <exception cref="FabricException">invalid-argument: the text is not a DNS label.</exception>
    public static HostName Parse(string? text) => TryParse(text, out var name) ? name : throw Label.Refuse("host name", text);

    public override string ToString() => _value ?? "";
}

/// <summary>The name of a site: hosts near each other, with a slower path to all others. Same rules as <see cref="VmName"/>.</summary>
[JsonConverter(typeof(SiteNameJsonConverter))]
public readonly record struct SiteName
{
    private readonly string? _value;

    private SiteName(string value) => _value = value;

    public string Value => _value ?? throw new InvalidOperationException("An empty SiteName was used.");

    public static bool TryParse([NotNullWhen(true)] string? text, out SiteName name)
    {
        name = Label.IsValid(text) ? new SiteName(text) : default;
        return name._value is not null;
    }

    public override string ToString() => _value ?? "";
}

/// <summary>One migration: 128 bits, time-ordered, written as 32 hex digits; people may use any unique prefix.</summary>
[JsonConverter(typeof(MigrationIdJsonConverter))]
public readonly record struct MigrationId(Guid Value)
{
    public static MigrationId New(TimeProvider time, Random random)
    {
        ArgumentNullException.ThrowIfNull(time);
        ArgumentNullException.ThrowIfNull(random);
        Span<byte> bytes = stackalloc byte[16];
        random.NextBytes(bytes);
        long millis = time.GetUtcNow().ToUnixTimeMilliseconds();
        for (int i = 0; i < 6; i++)
            bytes[i] = (byte)(millis >> (8 * (5 - i)));
        bytes[6] = (byte)(0x70 | (bytes[6] & 0x0f));
        bytes[8] = (byte)(0x80 | (bytes[8] & 0x3f));
        return new MigrationId(new Guid(bytes, bigEndian: true));
    }

    public static bool TryParse(string? text, out MigrationId id)
    {
        bool valid = Guid.TryParseExact(text, "N", out var value);
        id = new MigrationId(value);
        return valid;
    }

    public static MigrationId Parse(string? text) => TryParse(text, out var id)
        ? id
        : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a migration id.", "An id is 32 hex digits: fabric migration list");

    public override string ToString() => Value.ToString("N", CultureInfo.InvariantCulture);
}

/// <summary>One command to a host. A repeated id is answered from the stored result and never executed twice.</summary>
public readonly record struct CommandId(Guid Value)
{
    public override string ToString() => Value.ToString("N", CultureInfo.InvariantCulture);
}

/// <summary>
/// A fencing number that only grows. A VM has a <em>run epoch</em>, raised by each intent to hand over; a shard of
/// supervisors has a <em>shard epoch</em>, raised by each acquisition of its lease. Whoever has seen a higher epoch
/// refuses a lower one.
/// </summary>
[JsonConverter(typeof(EpochJsonConverter))]
public readonly record struct Epoch(long Value) : IComparable<Epoch>
{
    public static Epoch None => default;

    public Epoch Next => new(checked(Value + 1));

    public int CompareTo(Epoch other) => Value.CompareTo(other.Value);

    public static bool operator <(Epoch left, Epoch right) => left.Value < right.Value;

    public static bool operator >(Epoch left, Epoch right) => left.Value > right.Value;

    public static bool operator <=(Epoch left, Epoch right) => left.Value <= right.Value;

    public static bool operator >=(Epoch left, Epoch right) => left.Value >= right.Value;

    public override string ToString() => Value.ToString(CultureInfo.InvariantCulture);
}

/// <summary>The rule that the names of VMs, hosts and sites share.</summary>
public static class Label
{
    public const int MaxLength = 63;

    public static bool IsValid([NotNullWhen(true)] string? text)
    {
        if (text is null || text.Length is 0 or > MaxLength || text[0] == '-' || text[^1] == '-')
            return false;
        foreach (char c in text)
        {
            if (!char.IsAsciiLetterLower(c) && !char.IsAsciiDigit(c) && c != '-')
                return false;
        }

        return true;
    }

    /// <summary>Cuts hostile text to a printable length for an error message; control characters become '?'.</summary>
    public static string Shorten(string? text)
    {
        if (text is null)
            return "";
        string cut = text.Length <= 80 ? text : string.Concat(text.AsSpan(0, 77), "...");
        return string.Create(cut.Length, cut, static (span, source) =>
        {
            for (int i = 0; i < span.Length; i++)
                span[i] = char.IsControl(source[i]) ? '?' : source[i];
        });
    }

    internal static FabricException Refuse(string what, string? text) => new(
        ErrorCodes.InvalidArgument,
        $"'{Shorten(text)}' is not a {what}.",
        $"Use 1 to {MaxLength} characters of a-z, 0-9 and '-', beginning and ending with a letter or digit.");
}

public sealed class VmNameJsonConverter : JsonConverter<VmName>
{
    public override VmName Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.String && VmName.TryParse(reader.GetString(), out var name) ? name : throw new JsonException("not a VM name");

    public override void Write(Utf8JsonWriter writer, VmName value, JsonSerializerOptions options) => writer.WriteStringValue(value.Value);
}

public sealed class HostNameJsonConverter : JsonConverter<HostName>
{
    public override HostName Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.String && HostName.TryParse(reader.GetString(), out var name) ? name : throw new JsonException("not a host name");

    public override void Write(Utf8JsonWriter writer, HostName value, JsonSerializerOptions options) => writer.WriteStringValue(value.Value);
}

public sealed class SiteNameJsonConverter : JsonConverter<SiteName>
{
    public override SiteName Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.String && SiteName.TryParse(reader.GetString(), out var name) ? name : throw new JsonException("not a site name");

    public override void Write(Utf8JsonWriter writer, SiteName value, JsonSerializerOptions options) => writer.WriteStringValue(value.Value);
}

public sealed class MigrationIdJsonConverter : JsonConverter<MigrationId>
{
    public override MigrationId Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.String && MigrationId.TryParse(reader.GetString(), out var id) ? id : throw new JsonException("not a migration id");

    public override void Write(Utf8JsonWriter writer, MigrationId value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString());
}

public sealed class EpochJsonConverter : JsonConverter<Epoch>
{
    public override Epoch Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.Number && reader.TryGetInt64(out long value) && value >= 0 ? new Epoch(value) : throw new JsonException("not an epoch");

    public override void Write(Utf8JsonWriter writer, Epoch value, JsonSerializerOptions options) => writer.WriteNumberValue(value.Value);
}
