using Fabric.Core;
using Fabric.Supervisor.Vms;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

public sealed class EventStreamTests
{
    /// <summary>What is still on its way to the store would land after the next life of the actor has read its stream; only a higher epoch keeps it out.</summary>
    [Fact]
    public void An_append_whose_outcome_is_unknown_ends_the_tenure()
    {
        var world = new OneThread();
        Append("web");
        Assert.True(world.Tenure.Held);
        world.Journal.Appended = static _ => throw new FabricException(ErrorCodes.StoreFailed, "The answer was lost.");
        var unknown = Assert.Throws<FabricException>(() => Append("db"));
        Assert.Equal(ErrorCodes.StoreFailed, unknown.Error.Code);
        Assert.False(world.Tenure.Held);

        void Append(string vm) => world.Append(VmLedger.StreamOf(VmName.Parse(vm)), VmEvents.Catalog, new VmCreateIntended(world.Services.Now, Spec(vm), Alpha, new Epoch(1)));
    }
}
