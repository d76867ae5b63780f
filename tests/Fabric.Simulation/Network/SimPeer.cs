using Fabric.Core;
using Fabric.Simulation.Worlds;
using Fabric.Supervisor.Routing;
using Fabric.Wire.Api;

namespace Fabric.Simulation.Network;

/// <summary>Another control node, asked over the network. What is lost on the way is missed after the client's deadline; a process that ends resets its connections.</summary>
internal sealed class SimPeer(World world, SimNode from, SimNode to) : IShardCommands
{
    /// <summary>As <see cref="ControlClient"/> has it.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(130);

    public Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) =>
        AskAsync(there => there.SetCordonedAsync(host, cordoned, reason, CancellationToken.None), cancellation);

    public Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation) =>
        AskAsync(there => there.RepairAsync(vm, reason, CancellationToken.None), cancellation);

    public Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation) => AskAsync(there => there.CreateVmAsync(request, CancellationToken.None), cancellation);

    public Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation) => AskAsync(
        async there =>
        {
            await there.DeleteVmAsync(vm, force, CancellationToken.None);
            return true;
        },
        cancellation);

    public Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation) => AskAsync(there => there.MigrateAsync(request, CancellationToken.None), cancellation);

    public Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation) =>
        AskAsync(there => there.AbortMigrationAsync(idOrPrefix, reason, CancellationToken.None), cancellation);

    public Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation) => AskAsync(there => there.EvacuateAsync(request, CancellationToken.None), cancellation);

    private async Task<T> AskAsync<T>(Func<IShardCommands, Task<T>> question, CancellationToken cancellation)
    {
        var answer = new TaskCompletionSource<T>();
        var late = world.After(Deadline, () => answer.TrySetException(new FabricException(ErrorCodes.DeadlineExceeded, $"{to.Name} gave no answer within {Deadline.TotalSeconds} s.")));
        void Refuse() => Back(() => answer.TrySetException(new FabricException(ErrorCodes.Unreachable, $"{to.Name} refuses the connection, or closed it.")));
        void Back(Action arrive) => world.Links.Send(to.Name, from.Name, arrive);
        world.Links.Send(from.Name, to.Name, () =>
        {
            if (!to.Lives)
            {
                Refuse();
                return;
            }

            to.OnReset(Refuse);
            to.Process!.Begin(() => DoAsync(question, answer, Back));
        });
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        try
        {
            return await answer.Task;
        }
        finally
        {
            to.NoReset(Refuse);
            await late.DisposeAsync();
        }
    }

    /// <summary>In the other's process.</summary>
    private async Task DoAsync<T>(Func<IShardCommands, Task<T>> question, TaskCompletionSource<T> answer, Action<Action> back)
    {
        try
        {
            var result = await question(to.Here);
            back(() => answer.TrySetResult(result));
        }
        catch (FabricException refused)
        {
            world.Trace($"{to.Name} refuses {from.Name}: {refused.Error}");
            back(() => answer.TrySetException(refused));
        }
    }
}
