using Fabric.Daemon.Rehearsals;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Daemon;

/// <summary>The rehearsal with a synthetic machine: real agents, ledgers and sockets. With QEMU: Fabric.Integration.</summary>
public sealed class RehearsalTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("fabric-rehearsal-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public async Task The_vm_moves_there_and_back_and_nothing_is_left()
    {
        Assert.True(await New().RunAsync(CancellationToken.None));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_root));
    }

    [Fact]
    public async Task A_folder_that_cannot_be_made_is_a_failure_and_not_an_exception()
    {
        await File.WriteAllTextAsync(Path.Combine(_root, "state"), "");
        Assert.False(await New().RunAsync(CancellationToken.None));
    }

    private Rehearsal New() => new(
        new RehearsalOptions(Path.Combine(_root, "state"), Path.Combine(_root, "memory"), Qemu: null), NullLoggerFactory.Instance, TimeProvider.System, new Random(1));
}
