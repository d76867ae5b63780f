using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Unit.Cli;

/// <summary>
/// A local cluster of real processes with a synthetic guest: it starts, a killed host comes back on its old ports, and after the end nothing is
/// there. What is there is asked of the kernel (processes, memory files, directory), not of the cluster.
/// </summary>
public sealed class LocalClusterTests
{
    [SkippableFact]
    public async Task It_starts_survives_a_crash_and_leaves_nothing()
    {
        Skip.IfNot(OperatingSystem.IsLinux() && Directory.Exists("/dev/shm"), "needs Linux with /dev/shm");
        string directory = Directory.CreateTempSubdirectory("fabric-test-").FullName;
        using var deadline = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        var options = new LocalClusterOptions { Directory = directory, Daemon = DaemonProgram.Find(_ => null), Hosts = 1, Ephemeral = true };
        var cluster = LocalCluster.Create(options, TimeProvider.System, new Random());
        IReadOnlyList<string> left;
        try
        {
            await cluster.StartAsync(deadline.Token);
            Assert.Throws<FabricException>(() => LocalCluster.Create(options, TimeProvider.System, new Random()));
            using var client = new ControlClient(cluster.ApiUrl);
            var spec = new VmSpec { Name = VmName.Parse("s1"), Machine = MachineKind.Synthetic, MemoryBytes = 16 * ByteSize.Mebi };
            var vm = await client.CreateVmAsync(new CreateVmRequest(spec, HostName.Parse("alpha")), deadline.Token);
            Assert.Equal("running", vm.State);

            var before = await client.HostAsync(HostName.Parse("alpha"), deadline.Token);
            var first = cluster.ProcessOf("alpha");
            await cluster.KillAsync("alpha", deadline.Token);
            Assert.Null(cluster.ProcessOf("alpha"));
            var urls = await cluster.StartAsync("alpha", deadline.Token);
            Assert.NotEqual(first, cluster.ProcessOf("alpha"));
            Assert.Equal(before.AgentUrl, urls.AgentUrl);
        }
        finally
        {
            left = await cluster.DownAsync(_ => { }, CancellationToken.None);
        }

        Assert.Empty(left);
        Assert.All(cluster.Record.Members, member => Assert.False(member.Process?.IsAlive()));
        Assert.Empty(LeftOvers.MemoryFiles("/dev/shm", cluster.Record.MemoryPrefix));
        Assert.False(Directory.Exists(directory));
    }

    [Fact]
    public async Task A_daemon_that_cannot_start_is_shown_with_the_end_of_its_log()
    {
        string directory = Directory.CreateTempSubdirectory("fabric-test-").FullName;
        var options = new LocalClusterOptions { Directory = directory, Daemon = DaemonProgram.Find(_ => null), Hosts = 1, Ephemeral = true, Settings = ["colour=red"] };
        var cluster = LocalCluster.Create(options, TimeProvider.System, new Random());
        try
        {
            var error = await Assert.ThrowsAsync<FabricException>(() => cluster.StartAsync(CancellationToken.None));
            Assert.Contains("unknown key 'colour'", error.Error.Message, StringComparison.Ordinal);
        }
        finally
        {
            Assert.Empty(await cluster.DownAsync(_ => { }, CancellationToken.None));
        }
    }

    [Theory]
    [InlineData("relative")]
    [InlineData("/tmp/with,comma")]
    [InlineData("/tmp/a-directory-whose-name-is-much-too-long-for-the-sockets-in-it")]
    public void A_directory_that_cannot_hold_a_cluster_is_refused(string directory)
    {
        var error = Assert.Throws<FabricException>(
            () => LocalCluster.Create(new LocalClusterOptions { Directory = directory, Daemon = "fabricd" }, TimeProvider.System, new Random()));
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
    }
}
