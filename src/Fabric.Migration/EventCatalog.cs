using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>An event as it is stored: UTF-8 JSON under a stable kind and a version, never under a type name.</summary>
public readonly record struct StoredEvent(string Kind, int Version, byte[] Payload);

/// <summary>An event that was read, or what is wrong with it.</summary>
public readonly record struct DecodedEvent<TEvent>(TEvent? Event, FabricError? Error)
    where TEvent : class;

/// <summary>
/// Writes and reads the events of one kind of stream. The set of kinds is closed: an unknown one is an error value that names it, for an operator to
/// see; nothing is skipped and nothing is guessed.
/// </summary>
public sealed class EventCatalog<TEvent>
    where TEvent : class
{
    public const int Version = 1;

    private readonly FrozenDictionary<string, JsonTypeInfo> _byKind;
    private readonly FrozenDictionary<Type, (string Kind, JsonTypeInfo Json)> _byType;

    /// <param name="rows">Every event type once: its kind and how it is written.</param>
    public EventCatalog(params (string Kind, JsonTypeInfo Json)[] rows)
    {
        _byKind = rows.ToFrozenDictionary(static row => row.Kind, static row => row.Json, StringComparer.Ordinal);
        _byType = rows.ToFrozenDictionary(static row => row.Json.Type, static row => (row.Kind, row.Json));
        Kinds = [.. rows.Select(static row => row.Kind)];
    }

    public IReadOnlyList<string> Kinds { get; }

    public IEnumerable<Type> Types => _byType.Keys;

    public string KindOf(TEvent happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        return _byType[happened.GetType()].Kind;
    }

    public StoredEvent Encode(TEvent happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        var (kind, json) = _byType[happened.GetType()];
        return new StoredEvent(kind, Version, JsonSerializer.SerializeToUtf8Bytes(happened, json));
    }

    /// <summary>The error is corrupt (what is wrong with the payload) or unsupported (an unknown kind, another version); it names the kind.</summary>
    public DecodedEvent<TEvent> Decode(string kind, int version, ReadOnlySpan<byte> payload)
    {
        if (!_byKind.TryGetValue(kind, out var json))
            return Refuse(ErrorCodes.Unsupported, $"The journal holds an event of the unknown kind '{Label.Shorten(kind)}'.", "It was written by a newer version: use that one.");
        if (version != Version)
            return Refuse(ErrorCodes.Unsupported, $"The journal holds '{kind}' in version {version}; this program reads version {Version}.", "Use the version that wrote it.");
        try
        {
            return JsonSerializer.Deserialize(payload, json) is TEvent happened
                ? new DecodedEvent<TEvent>(happened, null)
                : Refuse(ErrorCodes.Corrupt, $"The payload of a '{kind}' event is empty.", Torn);
        }
        catch (JsonException failure)
        {
            return Refuse(ErrorCodes.Corrupt, $"The payload of a '{kind}' event cannot be read: {Label.Shorten(failure.Message)}", Torn);
        }
    }

    private const string Torn = "The data is kept as it is; restore the journal from a copy.";

    private static DecodedEvent<TEvent> Refuse(string code, string message, string hint) => new(null, new FabricError(code, message, hint));
}
