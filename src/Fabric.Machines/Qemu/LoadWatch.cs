namespace Fabric.Machines.Qemu;

/// <summary>
/// What a machine's events say that somebody waits for. <see cref="OnEvent"/> runs on the QMP reader's thread, the rest on callers' threads.
/// </summary>
internal sealed class LoadWatch
{
    private TaskCompletionSource<bool>? _outcome;
    private volatile string? _shutdownReason;

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
            case "SHUTDOWN":
                _shutdownReason = MachineFiles.Printable(QmpJson.Text(happened.Data, "reason") ?? "unknown");
                break;
        }
    }
}
