using Fabric.Cluster;
using Fabric.Cluster.Membership;
using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Supervisor.Routing;

/// <summary>
/// Takes a command to the control node that holds the shard of its entity, as the view says. While a shard is handed off or taken over nobody holds it: the command waits, up to
/// <see cref="Patience"/> and as one of at most <see cref="MostWaiting"/>, and is tried again where the view then says. Any thread.
/// </summary>
public sealed class ShardRouter(Guid self, Func<ClusterView> view, Func<Member, IShardCommands> peers, ShardMap map, TimeProvider time, Random random)
{
    public const int MostWaiting = 256;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    private readonly Jitter _jitter = new(random);
    private readonly Lock _gate = new();
    private int _waiting; // under _gate

    /// <param name="key">As for <see cref="ShardMap.Of"/>.</param>
    /// <param name="repeatable">Doing it twice is as doing it once, so it may be repeated when a node broke off without an answer.</param>
    /// <param name="here">This node holds the shard.</param>
    /// <param name="there">Another one does.</param>
    /// <exception cref="FabricException">unreachable: nobody held the shard for too long; exhausted; or what the owner says.</exception>
    public async Task<T> RunAsync<T>(string key, bool repeatable, Func<Task<T>> here, Func<IShardCommands, Task<T>> there, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(here);
        ArgumentNullException.ThrowIfNull(there);
        long began = time.GetTimestamp();
        using var place = new Waiting(this);
        while (true)
        {
            var owner = ShardPlacement.Of(view(), map.Of(key));
            FabricError error;
            try
            {
                if (owner is null)
                    error = new FabricError(ErrorCodes.NotHeld, "No control node is up.");
                else
                    return owner.Node == self ? await here() : await there(peers(owner));
            }
            catch (FabricException refused) when (refused.Error.Code == ErrorCodes.NotHeld || (repeatable && owner?.Node != self && refused.Error.Code == ErrorCodes.Unreachable))
            {
                error = refused.Error;
            }

            if (time.GetElapsedTime(began) > Patience)
                throw new FabricException(ErrorCodes.Unreachable, $"Nobody answered for '{key}' within {Patience.TotalSeconds:0} s: {error.Message}", "fabric shard list");
            place.Enter();
            await Task.Delay(_jitter.Around(Pause, 0.5), time, cancellation);
        }
    }

    private sealed class Waiting(ShardRouter router) : IDisposable
    {
        private bool _counted;

        public void Enter()
        {
            if (_counted)
                return;
            lock (router._gate)
            {
                if (router._waiting >= MostWaiting)
                    throw new FabricException(ErrorCodes.Exhausted, $"{MostWaiting} requests wait for shards that nobody holds.", "Try again in a few seconds; fabric shard list");
                router._waiting++;
            }

            _counted = true;
        }

        public void Dispose()
        {
            if (!_counted)
                return;
            lock (router._gate)
                router._waiting--;
        }
    }
}
