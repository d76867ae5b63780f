using Fabric.Daemon.Configuration;
using Fabric.Daemon.Control;
using Fabric.Daemon.State;
using Fabric.Daemon.Steps;

namespace Fabric.Daemon;

/// <summary>
/// One daemon's life: lock the directory, start the roles (control first, since an own host registers with it), say that it serves, wait, stop in
/// the opposite order. Guests are nobody's children here: a stop leaves them running, except when the owner of an ephemeral cluster is gone.
/// </summary>
internal sealed partial class DaemonRun(DaemonConfig config, ILoggerFactory logs, TimeProvider time)
{
    private readonly ILogger _log = logs.CreateLogger<DaemonRun>();

    public async Task RunAsync(CancellationToken stop)
    {
        using var scope = _log.BeginScope(new Dictionary<string, object>(StringComparer.Ordinal) { ["host"] = config.Name.Value });
        using var state = StateDirectory.Open(config.StateDirectory);
        using var owner = config.Owner is { } process ? new OwnerWatch(process) : null;
        using var gate = StepGate.Open(Environment.GetEnvironmentVariable(StepGate.Variable), config.Name);
        await using var control = config.Control is { } controlSettings ? await ControlRole.StartAsync(config.Name, controlSettings, state, gate, logs, time, stop) : null;
        await using var host = config.Host is { } hostSettings ? await HostRole.StartAsync(config.Name, hostSettings, state, gate, logs, time, stop) : null;
        var self = Native.ProcessIdentity.Of(Environment.ProcessId) ?? throw new InvalidOperationException("This process is not in /proc.");
        state.WriteReady(new ReadyRecord(
            self.ProcessId, self.StartTicks, config.Name, host?.Incarnation ?? Guid.Empty, ServiceVersion.Text, control?.ApiUrl, control?.ClusterUrl, host?.AgentUrl, host?.Data, time.GetUtcNow()));
        LogServing(config.Name.Value, control?.ApiUrl, host?.AgentUrl);
        bool orphaned = await WaitAsync(owner, stop);
        state.RemoveReady();
        if (!orphaned)
        {
            LogStopping(config.Name.Value);
        }
        else
        {
            LogOrphaned(config.Name.Value, config.Owner!.ProcessId);
            if (host is not null)
                await host.EndMachinesAsync();
        }
    }

    /// <summary>True when the owner is gone, false when asked to stop.</summary>
    private static async Task<bool> WaitAsync(OwnerWatch? owner, CancellationToken stop)
    {
        var stopped = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var registration = stop.Register(stopped.SetResult);
        if (owner is null)
        {
            await stopped.Task;
            return false;
        }

        return await Task.WhenAny(stopped.Task, owner.Gone) == owner.Gone;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Name} serves: API {Api}, agent {Agent}")]
    private partial void LogServing(string name, Uri? api, Uri? agent);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Name} stops; guests run on")]
    private partial void LogStopping(string name);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Name} ends with its VMs: its owner, process {Owner}, is gone")]
    private partial void LogOrphaned(string name, int owner);
}
