// How a control node knows what is in the shards of the others: it reads their events from the journal, a few times a second, and puts what they add up to on its board.
//
//   held here:   the entities' actors publish (their decision is on the board as soon as it is durable)
//   held elsewhere, or by nobody:   this reader publishes, up to one period later
//
// Both never publish the same shard: a shard is claimed before its actors are made, and given back after they have stopped, under the lock under which this reader publishes.
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor.Reading;

internal sealed partial class ShardReader(ControlServices services, ShardMap map) : IAsyncDisposable
{
    private const int ReadBatch = 512;

    private readonly ILogger _log = services.Loggers.CreateLogger<ShardReader>();
    private readonly CancellationTokenSource _stop = new();
    private readonly Turnstile _reading = new(); // over a round; the images are its
    private readonly Dictionary<ShardId, ShardImage> _images = map.All.ToDictionary(static shard => shard, static _ => new ShardImage());
    private readonly Lock _gate = new();
    private readonly HashSet<ShardId> _claimed = []; // under _gate
    private readonly Dictionary<ShardId, long> _readAt = []; // under _gate: monotonic time of the last read to the end
    private readonly Dictionary<ShardId, FabricError> _refused = []; // under _gate: shards with an event that cannot be read
    private Task _loop = Task.CompletedTask;

    /// <param name="afterRound">Called after each round in which every shard could be asked for.</param>
    public void Start(Action afterRound) => _loop = RunAsync(afterRound, _stop.Token);

    public async ValueTask DisposeAsync()
    {
        Stop();
        await _loop;
        _stop.Dispose();
    }

    /// <summary>From here on the shard's actors publish.</summary>
    public void Claim(ShardId shard)
    {
        lock (_gate)
            _claimed.Add(shard);
    }

    public void GiveBack(ShardId shard)
    {
        lock (_gate)
        {
            _claimed.Remove(shard);
            _readAt.Remove(shard); // what was read before it was held here is old
        }
    }

    /// <summary>What can be known of the shard by reading is on the board: it was read to its end, or to an event that cannot be read.</summary>
    public bool HasRead(ShardId shard)
    {
        lock (_gate)
            return _readAt.ContainsKey(shard) || _refused.ContainsKey(shard);
    }

    /// <summary>Why nothing certain can be said from reading about a shard; null when it was read to its end within <paramref name="age"/>.</summary>
    public FabricError? Unread(ShardId shard, TimeSpan age)
    {
        lock (_gate)
        {
            if (_refused.GetValueOrDefault(shard) is { } refused)
                return refused;
            return _readAt.TryGetValue(shard, out long at) && services.Time.GetElapsedTime(at) <= age
                ? null
                : new FabricError(ErrorCodes.Unreachable, $"This control node has not read shard {shard.Value} lately.", "Try again in a few seconds.");
        }
    }

    /// <summary>Reads everything once, now: what was durable before the call is on the board after it.</summary>
    /// <exception cref="FabricException">store-failed.</exception>
    public async Task RefreshAsync(CancellationToken cancellation)
    {
        await _reading.EnterAsync(cancellation);
        try
        {
            // One question for all shards: in most rounds nothing is new in most of them.
            var ends = (await services.Journal.ListShardsAsync(cancellation)).ToDictionary(static standing => standing.Shard, static standing => standing.Position);
            foreach (var (shard, image) in _images)
                await ReadAsync(shard, image, ends.GetValueOrDefault(shard), cancellation);
        }
        finally
        {
            _reading.Leave();
        }
    }

    // Not by CancelAsync, whose callbacks run on the pool: a simulation has one thread.
    private void Stop() => _stop.Cancel();

    private async Task RunAsync(Action afterRound, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await RefreshAsync(stop);
                afterRound();
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
            catch (FabricException failure)
            {
                LogTrouble(failure.Error.ToString());
            }
            catch (Exception defect)
            {
                LogDefect(defect); // the next round may do better; a node that reads no more would show what is no longer true
            }

            await Task.Delay(services.Ids.Jitter(services.Options.ReadPeriod), services.Time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    private async Task ReadAsync(ShardId shard, ShardImage image, long end, CancellationToken cancellation)
    {
        lock (_gate)
        {
            if (_claimed.Contains(shard) || _refused.ContainsKey(shard))
                return;
        }

        // An end that is lower than what was read is a store that went back: the read says so.
        bool more = image.Position != end;
        while (more)
        {
            var records = await services.Journal.ReadShardAsync(shard, image.Position, ReadBatch, cancellation);
            try
            {
                foreach (var record in records)
                    image.Apply(record);
            }
            catch (FabricException unreadable)
            {
                LogRefused(shard.Value, unreadable.Error.ToString());
                lock (_gate)
                    _refused[shard] = unreadable.Error;
                return;
            }

            more = records.Count == ReadBatch;
        }

        lock (_gate)
        {
            if (_claimed.Contains(shard))
                return;
            image.PublishChanges(services.Board, services.Hosts.SetCordoned);
            _readAt[shard] = services.Time.GetTimestamp();
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The shards of other nodes cannot be read now: {Error}")]
    private partial void LogTrouble(string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "Reading the shards of other nodes failed")]
    private partial void LogDefect(Exception defect);

    [LoggerMessage(Level = LogLevel.Error, Message = "Shard {Shard} is not shown by this node, its data is kept as it is: {Error}")]
    private partial void LogRefused(int shard, string error);
}
