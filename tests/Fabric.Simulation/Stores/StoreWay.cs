using Fabric.Core;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Stores;

/// <summary>What goes wrong between a control node and the store. One object for all nodes: the store is one.</summary>
internal sealed class StoreTroubles
{
    /// <summary>World time until which nobody reaches the store.</summary>
    internal TimeSpan DownUntil { get; set; }

    /// <summary>World time until which calls fail before, fail after or take long, by chance.</summary>
    internal TimeSpan FlakyUntil { get; set; }

    /// <summary>Nodes that cannot reach it, until when.</summary>
    internal Dictionary<string, TimeSpan> CutUntil { get; } = new(StringComparer.Ordinal);

    /// <summary>The node that dies at its append that is still so many appends away, before or after it is durable.</summary>
    internal Dictionary<string, (int After, bool Written)> DieAt { get; } = new(StringComparer.Ordinal);
}

/// <summary>The way of one life of a control node to the store: late, cut, or with an outcome that nobody can tell.</summary>
internal sealed class StoreWay(World world, SimNode node, SimProcess process)
{
    /// <summary>After which a store's client gives up, as those of the real stores do.</summary>
    private static readonly TimeSpan LongestAnswer = TimeSpan.FromSeconds(15);

    private enum Fate
    {
        Done,
        FailsBefore,
        FailsAfter,

        /// <summary>The caller hears that nobody knows; a while later it is done after all, or refused because the world went on.</summary>
        LandsLate,
    }

    /// <summary>The call reaches the store after a while, is done there whole or not at all, and its answer takes a while. One that is called off on its way may be done all the same.</summary>
    internal async Task<T> CallAsync<T>(Func<CancellationToken, Task<T>> call, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var (fate, there, back) = Draw();
        var callOff = world.Chance.Share(0.5) ? cancellation : CancellationToken.None;
        var answer = new TaskCompletionSource<T>();
        world.After(there, () =>
        {
            if (process.Dead && fate == Fate.FailsBefore)
                return;
            if (fate == Fate.FailsBefore)
                answer.TrySetException(NotReached());
            else
                Do(() => call(callOff), fate, back, answer);
        });
        if (fate == Fate.LandsLate)
            world.After(there / 2, () => answer.TrySetException(NotReached()));
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        return await answer.Task;
    }

    private void Do<T>(Func<Task<T>> call, Fate fate, TimeSpan back, TaskCompletionSource<T> answer)
    {
        try
        {
#pragma warning disable VSTHRD002, VSTHRD104 // The store in memory has the answer when it returns.
            var result = call().GetAwaiter().GetResult();
#pragma warning restore VSTHRD002, VSTHRD104
            world.After(back, () =>
            {
                if (fate == Fate.FailsAfter)
                    answer.TrySetException(NotReached());
                else
                    answer.TrySetResult(result);
            });
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException)
        {
            world.After(back, () => answer.TrySetException(e));
        }
    }

    private (Fate Fate, TimeSpan There, TimeSpan Back) Draw()
    {
        var chance = world.Chance;
        var (there, back) = (chance.Milliseconds(0.1, 2), chance.Milliseconds(0.1, 2));
        if (world.Troubles.DownUntil > world.Now || world.Troubles.CutUntil.GetValueOrDefault(node.Name) > world.Now)
            return (Fate.FailsBefore, chance.Share(0.2) ? LongestAnswer : chance.Milliseconds(1, 3000), back);
        if (world.Troubles.FlakyUntil <= world.Now)
            return (Fate.Done, there, back);
        return chance.Below(8) switch
        {
            0 => (Fate.FailsBefore, there, back),
            1 => (Fate.FailsAfter, there, back),
            2 => (Fate.Done, there, chance.Milliseconds(10, 6000)),
            3 => (Fate.Done, chance.Milliseconds(10, 6000), back),
            4 => (Fate.LandsLate, chance.Milliseconds(10, 6000), back),
            _ => (Fate.Done, there, back),
        };
    }

    private FabricException NotReached() => new(ErrorCodes.StoreFailed, $"{node.Name} cannot tell what became of its call to the store.");
}
