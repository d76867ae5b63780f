using System.Text.Json.Serialization;

namespace Fabric.Migration;

/// <summary>The events of a migration under their stable kinds.</summary>
public static class EventCodec
{
    public static EventCatalog<MigrationEvent> Catalog { get; } = new(
        ("migration-planned", MigrationJson.Default.MigrationPlanned),
        ("destination-prepared", MigrationJson.Default.DestinationPrepared),
        ("push-started", MigrationJson.Default.PushStarted),
        ("hand-over-intended", MigrationJson.Default.HandOverIntended),
        ("hand-over-found", MigrationJson.Default.HandOverFound),
        ("hand-over-withdrawn", MigrationJson.Default.HandOverWithdrawn),
        ("token-outcome-unknown", MigrationJson.Default.TokenOutcomeUnknown),
        ("handed-over", MigrationJson.Default.HandedOver),
        ("take-back-intended", MigrationJson.Default.TakeBackIntended),
        ("pull-completed", MigrationJson.Default.PullCompleted),
        ("source-released", MigrationJson.Default.SourceReleased),
        ("abort-requested", MigrationJson.Default.AbortRequested),
        ("step-failed", MigrationJson.Default.StepFailed),
        ("undo-done", MigrationJson.Default.UndoDone),
        ("migration-undone", MigrationJson.Default.MigrationUndone),
        ("fencing-needed", MigrationJson.Default.FencingNeeded),
        ("destination-returned", MigrationJson.Default.DestinationReturned),
        ("destination-fenced", MigrationJson.Default.DestinationFenced),
        ("recovery-completed", MigrationJson.Default.RecoveryCompleted),
        ("vm-lost", MigrationJson.Default.VmLost));

    public static string KindOf(MigrationEvent happened) => Catalog.KindOf(happened);
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
[JsonSerializable(typeof(HandOverFound))]
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
