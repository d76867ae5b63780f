using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>
/// Who tells the network where a VM is: the host at which it runs, after it runs, and nobody else. The machines count what they are asked, and the observer takes one that
/// is announced while it stands for a violation.
/// </summary>
public sealed class AnnouncementTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    private static readonly VmSpec Spec = new()
    {
        Name = VmName.Parse("web"),
        MemoryBytes = 64 * ByteSize.Mebi,
        Kernel = "/k",
        Accelerator = Accelerator.Tcg,
        Nics = [new NicSpec("br0")],
    };

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-announce-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PostCopy)]
    public async Task The_destination_announces_a_vm_that_has_moved(MigrationMode mode)
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, mode, _directory);
        var left = Assert.Single(run.Source.Machines.Machines);
        await run.EndAsync(Deadline);
        var home = Assert.Single(run.Observer.Running(Spec.Name));
        await AnnouncedAsync(home);
        Assert.Equal(("beta", 1, 0), (home.Where, home.Announcements, left.Announcements));
        Assert.Empty(run.Observer.Violations);
    }

    [Fact]
    public async Task The_source_announces_a_vm_that_it_keeps()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec, MigrationMode.PreCopy, _directory);
        run.KillDestinationAfter("handing-over");
        await run.EndAsync(Deadline);
        var home = Assert.Single(run.Observer.Running(Spec.Name));
        await AnnouncedAsync(home);
        Assert.Equal("alpha", home.Where);
        Assert.Empty(run.Observer.Violations);
    }

    [Fact]
    public async Task A_vm_without_a_card_is_never_announced()
    {
        await using var run = await SwitchOverRun.StartAsync(Spec with { Nics = [] }, MigrationMode.PreCopy, _directory);
        await run.EndAsync(Deadline);
        await run.Source.DisposeAsync();
        await run.Destination.DisposeAsync(); // whatever was under way is over then
        Assert.Equal(0, Assert.Single(run.Observer.Running(Spec.Name)).Announcements);
    }

    private static async Task AnnouncedAsync(FakeMachine machine)
    {
        for (long began = TimeProvider.System.GetTimestamp(); machine.Announcements == 0; await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System))
            Assert.True(TimeProvider.System.GetElapsedTime(began) < Deadline, $"Nobody announced the VM at {machine.Where}.");
    }
}
