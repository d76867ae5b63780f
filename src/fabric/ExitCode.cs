using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli;

/// <summary>What the process says when it ends; scripts depend on these numbers (docs/OPERATIONS.md).</summary>
public static class ExitCode
{
    public const int Done = 0;
    public const int Failed = 1;
    public const int Usage = 2;
    public const int PartlyDone = 3;
    public const int Refused = 4;
    public const int TimedOut = 5;
    public const int Interrupted = 130;

    public static int Of(FabricError error)
    {
        ArgumentNullException.ThrowIfNull(error);
        return error.Code switch
        {
            ErrorCodes.InvalidArgument => Usage,
            ErrorCodes.RefusedByEpoch or ErrorCodes.RefusedBySafety => Refused,
            ErrorCodes.DeadlineExceeded => TimedOut,
            _ => Failed,
        };
    }

    public static int Of(MigrationReport migration)
    {
        ArgumentNullException.ThrowIfNull(migration);
        return migration.State == MigrationStates.Completed && migration.Verified != false ? Done : Failed;
    }

    public static int Of(EvacuationReport evacuation)
    {
        ArgumentNullException.ThrowIfNull(evacuation);
        return evacuation.State switch
        {
            "done" or "planned" => Done,
            "partly-done" => PartlyDone,
            _ => Failed,
        };
    }
}

/// <summary>The states of reports after which nothing more happens by itself.</summary>
public static class MigrationStates
{
    public const string Completed = "completed";

    public static bool IsFinal(MigrationReport migration)
    {
        ArgumentNullException.ThrowIfNull(migration);
        return migration.State is Completed or "failed" or "aborted" or "recovered" or "lost" or "needs-fencing";
    }

    public static bool IsFinal(EvacuationReport evacuation)
    {
        ArgumentNullException.ThrowIfNull(evacuation);
        return evacuation.State is not "running";
    }
}
