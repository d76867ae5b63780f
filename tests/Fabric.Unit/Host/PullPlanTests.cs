using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>The page order that a migration names is what its source's agent connects with, before and after the agent died in the pull: the second time it has it from its ledger.</summary>
public sealed class PullPlanTests : IDisposable
{
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = 64 * ByteSize.Mebi, Kernel = "/k", Accelerator = Accelerator.Tcg };

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-plan-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_resumed_pull_goes_on_in_the_order_that_the_migration_named()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PostCopy, _directory, PageOrder.ForwardMultiLru, 5);
        run.Source.DieAt = (FaultMoment.After, "handed-over");
        await run.EndAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(1, run.Source.Deaths);
        Assert.Contains(run.Network.Routes, route => route.Resume);
        Assert.All(run.Network.Routes, route => Assert.Equal(new PullPlan(PageOrder.ForwardMultiLru, 5), route.Plan));
    }
}
