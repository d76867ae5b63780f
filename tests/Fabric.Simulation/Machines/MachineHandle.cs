using Fabric.Core;
using Fabric.Machines;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Machines;

/// <summary>
/// One agent's hold on a machine. An order takes a moment to reach the machine and its answer another: an agent that dies in between has given the order
/// all the same. What an agent that is dead still tries goes nowhere.
/// </summary>
internal sealed class MachineHandle(World world, SimMachine machine, SimProcess agent) : IMachine
{
    public VmSpec Spec => machine.Spec;

    public IGuestMemory Memory { get; } = new SimMemory(machine);

    public IBalloon? Balloon => null;

    public IThrottle? Throttle => field ??= new Brake(this);

    public string AdoptionRecord => machine.Id;

    public int? ProcessId => null;

    public Task<string> Exited => machine.Exited.Task;

    public string ConsoleLog => "/nonexistent";

    public long? RunsSince => machine.RunsSince;

    public long? StandsSince => machine.StandsSince;

    public async ValueTask<MachineStatus> QueryStatusAsync(CancellationToken cancellation) => await OrderAsync(() => machine.Status, cancellation);

    public async ValueTask StopAsync(CancellationToken cancellation)
    {
        await OrderAsync(() => Do(machine.Stop), cancellation);
        if (world.Plants.On("resume-on-timeout"))
            world.After(TimeSpan.FromSeconds(4), () => world.Try(machine.Continue));
    }

    public async ValueTask ContinueAsync(CancellationToken cancellation) =>
        await OrderAsync(() => Do(world.Plants.Once("lost-continue") ? static () => { } : machine.Continue), cancellation);

    public async ValueTask<byte[]> SaveDeviceStateAsync(bool releaseDisks, CancellationToken cancellation) =>
        await OrderAsync(() => machine.Save(releaseDisks), cancellation);

    public async ValueTask LoadDeviceStateAsync(ReadOnlyMemory<byte> state, CancellationToken cancellation)
    {
        byte[] copy = state.ToArray();
        await OrderAsync(() => Do(() => machine.Load(copy)), cancellation);
        // The queues of the devices lie in guest memory: loading waits for them.
        if (machine.Guest is { } guest)
            await machine.PresentAsync(guest.DevicePage).WaitAsync(cancellation);
    }

    public async ValueTask ReclaimDisksAsync(CancellationToken cancellation) => await OrderAsync(() => Do(machine.TakeDisk), cancellation);

    public async ValueTask KillAsync(CancellationToken cancellation)
    {
        if (machine.Gone)
            return;
        await OrderAsync(() => Do(() => { if (!world.Plants.On("leak-machine")) machine.End("its agent ended it", fault: false); }), cancellation);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>A lift is a system call and takes no time; setting asks the hypervisor first, and its answer may come behind a lift.</summary>
    private sealed class Brake(MachineHandle handle) : IThrottle
    {
        private int _lifts;

        public async ValueTask SetAsync(int percent, CancellationToken cancellation)
        {
            int lifts = _lifts;
            await handle.QueryStatusAsync(cancellation);
            if (lifts == _lifts && !handle.AgentDead)
                handle.Machine.SetSpeed(percent);
        }

        public void Lift()
        {
            _lifts++;
            if (!handle.AgentDead && !handle.Machine.Gone && !handle.World.Plants.On("keep-throttle"))
                handle.Machine.SetSpeed(100);
        }
    }

    private SimMachine Machine => machine;

    private World World => world;

    private bool AgentDead => agent.Dead;

    private static bool Do(Action action)
    {
        action();
        return true;
    }

    private async Task<T> OrderAsync<T>(Func<T> order, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        if (agent.Dead)
            throw new FabricException(ErrorCodes.Unreachable, "This agent's process is gone.");
        var answer = new TaskCompletionSource<T>();
        world.After(machine.Host.OrderTime(), () =>
        {
            try
            {
                var result = order();
                world.After(machine.Host.OrderTime(), () => answer.TrySetResult(result));
            }
            catch (FabricException e)
            {
                answer.TrySetException(e);
            }
        });
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        return await answer.Task;
    }
}
