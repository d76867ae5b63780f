using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Simulation.Worlds;
using Fabric.Wire.Agent;

namespace Fabric.Simulation.Network;

/// <summary>One control node's way to the agents. An answer that does not come is an exception after a deadline: whether the command was done is unknown.</summary>
internal sealed class SimGateway(World world, SimNode node) : IAgentGateway
{
    private static readonly TimeSpan CommandDeadline = TimeSpan.FromSeconds(12);
    private static readonly TimeSpan FactsGrace = TimeSpan.FromSeconds(3);

    public Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation)
    {
        world.Observer.Sent(node, host, command);
        var target = world.Host(host);
        return AskAsync<CommandResult>(
            target,
            CommandDeadline,
            answer => target.Execute(command, result => answer(world.Plants.Answer(command, result))),
            isCommand: true,
            cancellation);
    }

    public Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation)
    {
        var target = world.Host(host);
        return AskAsync<HostFacts>(target, wait + FactsGrace, answer => target.Facts(after, wait, answer), isCommand: false, cancellation);
    }

    public Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation) => Task.FromResult<byte[]?>(null);

    private async Task<T> AskAsync<T>(SimHost host, TimeSpan deadline, Func<Action<T>, bool> deliver, bool isCommand, CancellationToken cancellation)
    {
        var answer = new TaskCompletionSource<T>();
        var late = world.After(deadline, () => answer.TrySetException(new FabricException(ErrorCodes.DeadlineExceeded, $"'{host.Name}' did not answer within {deadline.TotalSeconds} s.")));
        void Arrive()
        {
            if (!deliver(result => world.Links.Send(host.Name.Value, node.Name, () => answer.TrySetResult(result))) && host.Powered)
                world.Links.Send(host.Name.Value, node.Name, () => answer.TrySetException(new FabricException(ErrorCodes.Unreachable, $"'{host.Name}' refuses the connection.")));
        }

        if (isCommand && node.HoldsBack() is { } held)
            world.After(held, Arrive);
        else
            world.Links.Send(node.Name, host.Name.Value, Arrive, mayDouble: isCommand);
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        try
        {
            return await answer.Task;
        }
        finally
        {
            await late.DisposeAsync();
        }
    }
}
