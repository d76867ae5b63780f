using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>A creation as a real agent answers it; what runs is asked of the machines.</summary>
public sealed class CreationTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-create-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    /// <summary>Two control nodes, or one that knew the host of seconds ago, may both think that there is room.</summary>
    [Fact]
    public async Task A_vm_that_the_host_has_no_memory_for_is_refused_and_the_others_run_on()
    {
        var observer = new RunObserver();
        await using var host = new TestHost(HostName.Parse("alpha"), new MemoryNetwork(), observer, _directory) { MemoryBytes = 100 * ByteSize.Mebi };
        await host.StartAsync();
        Assert.Null((await CreateAsync(host, "web"))!.Error);
        var refused = await CreateAsync(host, "db");
        Assert.Equal(ErrorCodes.Exhausted, refused!.Error!.Code);
        Assert.Single(observer.Running(VmName.Parse("web")));
        Assert.Empty(observer.Running(VmName.Parse("db")));
        Assert.Single(host.Machines.Machines);
    }

    private static Task<CommandResult?> CreateAsync(TestHost host, string name)
    {
        var spec = new VmSpec { Name = VmName.Parse(name), MemoryBytes = 64 * ByteSize.Mebi, Kernel = "/k", Accelerator = Accelerator.Tcg };
        return host.SendAsync(new CreateVm(new CommandHeader(new CommandId(Guid.NewGuid()), spec.Name, new Epoch(1), new Epoch(1)), spec));
    }
}
