using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Agent;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

public sealed class EvacuationPlannerTests
{
    private static readonly VmName Web = VmName.Parse("web");

    /// <summary>
    /// Another thread lets the host say in turn that the VM has come and that it has not, each time with the memory that is free then: whoever reads the host twice for one plan
    /// finds both in one of some thousand plans, and takes the VM's memory off twice or not at all.
    /// </summary>
    [Fact]
    public async Task A_vm_that_comes_while_a_plan_is_made_counts_once()
    {
        const long vmBytes = 4 * ByteSize.Gibi, hostBytes = 12 * ByteSize.Gibi;
        var world = new OneThread();
        var spec = Spec("web", vmBytes);
        world.Board.Publish(VmState.None(Web).Apply(new VmCreateIntended(world.Services.Now, spec, Alpha, new Epoch(1))).Apply(new VmCreated(world.Services.Now)));
        world.Services.Hosts.Register(new HostRegistration(
            Gamma, Guid.NewGuid(), new Uri("http://127.0.0.1:7070"), new DataEndpoint("127.0.0.1", 7000), hostBytes, 4, [MachineKind.Synthetic], "test"));
        var fact = new VmFact(spec, new Epoch(1), Owner: false, VmRunState.Incoming, 1, null, null);
        HostLevel[] levels = [Level(hostBytes), Level(hostBytes - vmBytes, fact)];
        world.Board.Publish(Gamma, levels[0]);
        var begun = new BatchPlan("1", Alpha, [new Placement(Web, Gamma, null)], MigrationOptions.Default, BatchLimits.Default, world.Services.Now, null);

        using var done = new CancellationTokenSource();
        var saying = Task.Factory.StartNew(
            () =>
            {
                for (int i = 0; !done.IsCancellationRequested; i++)
                    world.Board.Publish(Gamma, levels[i % 2]);
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        try
        {
            for (int i = 0; i < 50_000; i++)
                Assert.Equal(hostBytes - vmBytes, Assert.Single(EvacuationPlanner.Destinations(world.Services, [begun])).MemoryFreeBytes);
        }
        finally
        {
            await done.CancelAsync();
            await saying;
        }
    }

    private static HostLevel Level(long free, params VmFact[] vms) =>
        new(new HostFacts(Gamma, new Guid(1, 2, 3, new byte[8]), 1, new DataEndpoint("127.0.0.1", 7000), free, vms), null);
}
