using Fabric.Core;

namespace Fabric.Machines.Qemu;

/// <summary>
/// What a machine's events say that somebody waits for. <see cref="OnEvent"/> runs on the QMP reader's thread, the rest on callers' threads.
/// </summary>
internal sealed class EventWatch(TimeProvider time)
{
    private static readonly TimeSpan OldestEvent = TimeSpan.FromSeconds(5);

    private TaskCompletionSource<bool>? _outcome;
    private volatile string? _shutdownReason;
    private long _resumedAt = long.MinValue;
    private long _stoppedAt = long.MinValue;

    /// <summary>When the vCPUs last were let run, by QEMU's own clock: on a busy host its word is read much later.</summary>
    internal long? ResumedAt => Known(ref _resumedAt);

    /// <summary>When they last had stopped.</summary>
    internal long? StoppedAt => Known(ref _stoppedAt);

    /// <summary>Why the guest shut down, as QEMU named it; null when it did not.</summary>
    internal string? ShutdownReason => _shutdownReason;

    /// <summary>Call before the state is sent. Completes with true when it is loaded, false when loading failed.</summary>
    internal Task<bool> Arm()
    {
        var outcome = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        Volatile.Write(ref _outcome, outcome);
        return outcome.Task;
    }

    internal void OnEvent(QmpEvent happened)
    {
        switch (happened.Name)
        {
            case "MIGRATION":
                string? status = QmpJson.Text(happened.Data, "status");
                if (status is "completed" or "failed")
                    Volatile.Read(ref _outcome)?.TrySetResult(status == "completed");
                break;
            case "RESUME":
                Volatile.Write(ref _resumedAt, StampOf(happened));
                break;
            case "STOP":
                Volatile.Write(ref _stoppedAt, StampOf(happened));
                break;
            case "SHUTDOWN":
                _shutdownReason = MachineFiles.Printable(QmpJson.Text(happened.Data, "reason") ?? "unknown");
                break;
        }
    }

    private static long? Known(ref long stamp) => Volatile.Read(ref stamp) is var at and not long.MinValue ? at : null;

    /// <summary>QEMU stamps events with the wall clock, which may be set meanwhile: an age that cannot be is none.</summary>
    private long StampOf(QmpEvent happened)
    {
        var age = happened.At is { } at ? time.GetUtcNow() - at : TimeSpan.Zero;
        return time.GetTimestampBefore(age > TimeSpan.Zero && age < OldestEvent ? age : TimeSpan.Zero);
    }
}
