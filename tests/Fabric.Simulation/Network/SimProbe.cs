using Fabric.Cluster.Membership;
using Fabric.Journal;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Network;

/// <summary>One control node's questions whether another is there. One that is lost is answered by nobody.</summary>
internal sealed class SimProbe(World world, SimNode from) : IPeerProbe
{
    public async Task<bool> AnswersAsync(Member peer, CancellationToken cancellation)
    {
        var to = world.Node(peer);
        var answer = new TaskCompletionSource<bool>();
        world.Links.Send(from.Name, to.Name, () =>
        {
            if (to.Lives)
                to.Process!.Post(() => Answer(to, peer, answer));
            else
                world.Links.Send(to.Name, from.Name, () => answer.TrySetResult(false));
        });
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        return await answer.Task;
    }

    private void Answer(SimNode to, Member peer, TaskCompletionSource<bool> answer)
    {
        bool same = to.Member == peer.Node && !world.Plants.On("deaf-probes");
        world.Links.Send(to.Name, from.Name, () => answer.TrySetResult(same));
    }
}
