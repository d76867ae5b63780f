using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>An event as it is stored: UTF-8 JSON under a stable kind and a version, never under a type name.</summary>
public readonly record struct StoredEvent(string Kind, int Version, byte[] Payload);

/// <summary>An event that was read, or what is wrong with it.</summary>
public readonly record struct DecodedEvent(MigrationEvent? Event, FabricError? Error);

/// <summary>Writes and reads events. The set of kinds is closed: an unknown one is an error value that names it, for an operator to see.</summary>
public static class EventCodec
{
    public const int Version = 1;

    private static readonly (string Kind, Type Type, JsonTypeInfo Json)[] Rows =
    [
        ("migration-planned", typeof(MigrationPlanned), MigrationJson.Default.MigrationPlanned),
        ("destination-prepared", typeof(DestinationPrepared), MigrationJson.Default.DestinationPrepared),
        ("push-started", typeof(PushStarted), MigrationJson.Default.PushStarted),
        ("hand-over-intended", typeof(HandOverIntended), MigrationJson.Default.HandOverIntended),
        ("hand-over-withdrawn", typeof(HandOverWithdrawn), MigrationJson.Default.HandOverWithdrawn),
        ("token-outcome-unknown", typeof(TokenOutcomeUnknown), MigrationJson.Default.TokenOutcomeUnknown),
        ("handed-over", typeof(HandedOver), MigrationJson.Default.HandedOver),
        ("take-back-intended", typeof(TakeBackIntended), MigrationJson.Default.TakeBackIntended),
        ("pull-completed", typeof(PullCompleted), MigrationJson.Default.PullCompleted),
        ("source-released", typeof(SourceReleased), MigrationJson.Default.SourceReleased),
        ("abort-requested", typeof(AbortRequested), MigrationJson.Default.AbortRequested),
        ("step-failed", typeof(StepFailed), MigrationJson.Default.StepFailed),
        ("undo-done", typeof(UndoDone), MigrationJson.Default.UndoDone),
        ("migration-undone", typeof(MigrationUndone), MigrationJson.Default.MigrationUndone),
        ("fencing-needed", typeof(FencingNeeded), MigrationJson.Default.FencingNeeded),
        ("destination-returned", typeof(DestinationReturned), MigrationJson.Default.DestinationReturned),
        ("destination-fenced", typeof(DestinationFenced), MigrationJson.Default.DestinationFenced),
        ("recovery-completed", typeof(RecoveryCompleted), MigrationJson.Default.RecoveryCompleted),
        ("vm-lost", typeof(VmLost), MigrationJson.Default.VmLost),
    ];

    private static readonly FrozenDictionary<string, JsonTypeInfo> ByKind =
        Rows.ToFrozenDictionary(static row => row.Kind, static row => row.Json, StringComparer.Ordinal);

    private static readonly FrozenDictionary<Type, (string Kind, JsonTypeInfo Json)> ByType =
        Rows.ToFrozenDictionary(static row => row.Type, static row => (row.Kind, row.Json));

    public static IReadOnlyList<string> Kinds { get; } = [.. Rows.Select(static row => row.Kind)];

    public static string KindOf(MigrationEvent happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        return ByType[happened.GetType()].Kind;
    }

    public static StoredEvent Encode(MigrationEvent happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        var (kind, json) = ByType[happened.GetType()];
        return new StoredEvent(kind, Version, JsonSerializer.SerializeToUtf8Bytes(happened, json));
    }

    /// <summary>corrupt with the kind and what is wrong; unsupported for an unknown kind or a newer version.</summary>
    public static DecodedEvent Decode(string kind, int version, ReadOnlySpan<byte> payload)
    {
        if (!ByKind.TryGetValue(kind, out var json))
            return Refuse(ErrorCodes.Unsupported, $"The journal holds an event of the unknown kind '{Label.Shorten(kind)}'.", "It was written by a newer version: use that one.");
        if (version != Version)
            return Refuse(ErrorCodes.Unsupported, $"The journal holds '{kind}' in version {version}; this program reads version {Version}.", "Use the version that wrote it.");
        try
        {
            return JsonSerializer.Deserialize(payload, json) is MigrationEvent happened
                ? new DecodedEvent(happened, null)
                : Refuse(ErrorCodes.Corrupt, $"The payload of a '{kind}' event is empty.", "Restore the journal from a copy; its data is kept as it is.");
        }
        catch (JsonException failure)
        {
            return Refuse(ErrorCodes.Corrupt, $"The payload of a '{kind}' event cannot be read: {Label.Shorten(failure.Message)}", "Restore the journal from a copy; its data is kept as it is.");
        }
    }

    private static DecodedEvent Refuse(string code, string message, string hint) => new(null, new FabricError(code, message, hint));
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip,
    MaxDepth = 32,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(MigrationPlanned))]
[JsonSerializable(typeof(DestinationPrepared))]
[JsonSerializable(typeof(PushStarted))]
[JsonSerializable(typeof(HandOverIntended))]
[JsonSerializable(typeof(HandOverWithdrawn))]
[JsonSerializable(typeof(TokenOutcomeUnknown))]
[JsonSerializable(typeof(HandedOver))]
[JsonSerializable(typeof(TakeBackIntended))]
[JsonSerializable(typeof(PullCompleted))]
[JsonSerializable(typeof(SourceReleased))]
[JsonSerializable(typeof(AbortRequested))]
[JsonSerializable(typeof(StepFailed))]
[JsonSerializable(typeof(UndoDone))]
[JsonSerializable(typeof(MigrationUndone))]
[JsonSerializable(typeof(FencingNeeded))]
[JsonSerializable(typeof(DestinationReturned))]
[JsonSerializable(typeof(DestinationFenced))]
[JsonSerializable(typeof(RecoveryCompleted))]
[JsonSerializable(typeof(VmLost))]
[JsonSerializable(typeof(MigrationPlan))]
internal sealed partial class MigrationJson : JsonSerializerContext;
