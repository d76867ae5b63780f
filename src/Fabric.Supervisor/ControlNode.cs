using Fabric.Core;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor;

/// <summary>
/// Keeps one control node in its cluster: joins, and after each life that was declared dead joins again as another. Ends in good order. Between two lives requests are answered
/// with unreachable.
/// </summary>
public sealed partial class ControlNode : IAsyncDisposable
{
    private static readonly TimeSpan RetryJoin = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LeaveDeadline = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan SettleDeadline = TimeSpan.FromSeconds(10);

    private readonly ControlParts _parts;
    private readonly Uri _clusterUrl;
    private readonly Uri _apiUrl;
    private readonly ILogger _log;
    private readonly CancellationTokenSource _stop = new();
    private volatile ControlLife? _life;
    private Task _living = Task.CompletedTask;

    /// <param name="parts">Not owned.</param>
    /// <param name="clusterUrl">Where other nodes and agents find this one.</param>
    /// <param name="apiUrl">Where operators find it.</param>
    public ControlNode(ControlParts parts, Uri clusterUrl, Uri apiUrl)
    {
        ArgumentNullException.ThrowIfNull(parts);
        (_parts, _clusterUrl, _apiUrl) = (parts, clusterUrl, apiUrl);
        _log = parts.Logs.CreateLogger<ControlNode>();
    }

    /// <summary>Joins for the first time; returns when this node's shards are its own, or after a while when others do not give them back.</summary>
    /// <exception cref="FabricException">store-failed.</exception>
    public async Task StartAsync(CancellationToken cancellation)
    {
        var life = await ControlLife.JoinAsync(_parts, _clusterUrl, _apiUrl, cancellation);
        _life = life;
        using var deadline = new CancellationTokenSource(SettleDeadline, _parts.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation, life.Expelled);
        var settled = life.Here.SettledAsync(either.Token);
        _living = LiveAsync(life, _stop.Token);
        await settled.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        cancellation.ThrowIfCancellationRequested();
    }

    /// <summary>The id of the life that the node lives now; null between two.</summary>
    public Guid? Node => _life?.Node;

    /// <exception cref="FabricException">unreachable: between two lives.</exception>
    public IControlPlane Everywhere => Living.Everywhere;

    /// <exception cref="FabricException">unreachable: between two lives.</exception>
    public IControlPlane Here => Living.Here;

    /// <exception cref="FabricException">unreachable: between two lives.</exception>
    public ControlLife Living => _life ?? throw new FabricException(ErrorCodes.Unreachable, $"Control node '{_parts.Name}' is not in its cluster now.", "It joins again by itself; ask another node, or try again in a few seconds.");

    public async ValueTask DisposeAsync()
    {
        Stop();
        await _living;
        _stop.Dispose();
    }

    // Not by CancelAsync, whose callbacks run on the pool: a simulation has one thread.
    private void Stop() => _stop.Cancel();

    private async Task LiveAsync(ControlLife life, CancellationToken stop)
    {
        while (true)
        {
            using (var over = CancellationTokenSource.CreateLinkedTokenSource(life.Expelled, stop))
                await Task.Delay(Timeout.InfiniteTimeSpan, _parts.Time, over.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
            _life = null;
            if (stop.IsCancellationRequested)
                await LeaveAsync(life);
            await life.DisposeAsync();
            if (await JoinAgainAsync(stop) is not { } next)
                return;
            _life = life = next;
        }
    }

    /// <summary>Null when the node stops.</summary>
    private async Task<ControlLife?> JoinAgainAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                return await ControlLife.JoinAsync(_parts, _clusterUrl, _apiUrl, stop);
            }
            catch (FabricException failure)
            {
                LogNotJoined(_parts.Name.Value, failure.Error.ToString());
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return null;
            }

            await Task.Delay(RetryJoin, _parts.Time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }

        return null;
    }

    private async Task LeaveAsync(ControlLife life)
    {
        using var deadline = new CancellationTokenSource(LeaveDeadline, _parts.Time);
        try
        {
            await life.LeaveAsync(deadline.Token);
        }
        catch (Exception failure) when (failure is FabricException or OperationCanceledException)
        {
            LogLeftHard(_parts.Name.Value, failure.Message); // the others find out by themselves
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "Control node {Name} cannot join its cluster: {Error}")]
    private partial void LogNotJoined(string name, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Control node {Name} left without saying so: {Error}")]
    private partial void LogLeftHard(string name, string error);
}
