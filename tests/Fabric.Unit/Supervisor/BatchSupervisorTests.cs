using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Supervisor.Batches;
using Fabric.Supervisor.Vms;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

/// <summary>When an evacuation asks for its migrations: counted by who is asked, over time that the test moves.</summary>
public sealed class BatchSupervisorTests
{
    private static readonly VmName Web = VmName.Parse("web");

    /// <summary>A VM whose host does not answer is refused without a message to anybody, so only the supervisor's own pause keeps it from asking without end.</summary>
    [Fact]
    public void A_start_that_is_refused_at_once_is_tried_again_after_a_pause()
    {
        var world = new OneThread();
        world.Board.Open();
        var starter = Begin(world);
        world.Loop.RunFor(TimeSpan.FromSeconds(10));
        Assert.InRange(starter.Asked, 5, 25);
    }

    /// <summary>Before that the node does not know what moves already, and would count the limits without it.</summary>
    [Fact]
    public void Nothing_is_started_before_the_node_has_read_every_shard()
    {
        var world = new OneThread();
        var starter = Begin(world);
        world.Loop.RunFor(TimeSpan.FromSeconds(10));
        Assert.Equal(0, starter.Asked);
        world.Board.Open();
        world.Loop.RunFor(TimeSpan.FromSeconds(2));
        Assert.NotEqual(0, starter.Asked);
    }

    private static RefusingStarter Begin(OneThread world)
    {
        world.Show(Beta);
        world.Board.Publish(VmState.None(Web).Apply(new VmCreateIntended(world.Services.Now, Spec("web"), Alpha, new Epoch(1))).Apply(new VmCreated(world.Services.Now)));
        var starter = new RefusingStarter();
        var plan = new BatchPlan("1", Alpha, [new Placement(Web, Beta, null)], MigrationOptions.Default, BatchLimits.Default, world.Services.Now, null);
        world.Actors.Spawn("batch", () => new BatchSupervisor(world.Services, world.Tenure, starter, "1", plan));
        return starter;
    }

    private sealed class RefusingStarter : IMigrationStarter
    {
        internal int Asked { get; private set; }

        public Task<KnownState> StartAsync(VmName vm, HostName destination, MigrationOptions options, Guid requestId, BatchMembership batch, CancellationToken cancellation)
        {
            Asked++;
            throw new FabricException(ErrorCodes.Unreachable, $"The host of '{vm}' does not answer.");
        }

        public Task SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) => Task.CompletedTask;
    }
}
