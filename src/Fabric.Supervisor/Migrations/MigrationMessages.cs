using Fabric.Actors;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor.Migrations;

internal abstract record MigrationMessage;

/// <summary>Something may have changed: facts, time, or a retry that is due. Losing or repeating it does no harm.</summary>
internal sealed record Look : MigrationMessage
{
    public static Look Instance { get; } = new();
}

/// <summary>A definite answer of an agent.</summary>
internal sealed record StepAnswered(MigrationStep Step, int Attempt, FabricError? Error) : MigrationMessage;

/// <summary>No answer: whether the command was done is unknown, so it is asked again under the same id.</summary>
internal sealed record StepUnknown(MigrationStep Step, int Attempt, FabricError Why) : MigrationMessage;

internal sealed record GiveUp(string Reason, IReply<KnownState> Reply) : MigrationMessage;
