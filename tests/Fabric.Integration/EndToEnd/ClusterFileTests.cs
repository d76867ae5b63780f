using System.Diagnostics;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Integration.Postgres;
using Fabric.Native;
using Xunit;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// Clusters of real processes from the files of <c>fabric up --config</c>, with a PostgreSQL server of their own. What is there and what is gone is asked of the kernel.
/// </summary>
[Collection(PostgresCollection.Name)]
public sealed class ClusterFileTests
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    [SkippableFact]
    public async Task Two_sites_come_up_prefer_their_own_and_outlive_a_crash_of_the_store()
    {
        Skip.IfNot(TemporaryPostgres.Unavailable() is null, TemporaryPostgres.Unavailable());
        await using var bench = await ClusterBench.StartAsync(TopologyFile.Read(InTree("two-sites.yaml")));
        var hosts = (await bench.AskAsync("host", "list")).EnumerateArray().ToDictionary(static h => h.GetProperty("name").GetString()!, static h => h.GetProperty("site").GetString());
        Assert.Equal(new Dictionary<string, string?> { ["east-1"] = "east", ["east-2"] = "east", ["west-1"] = "west", ["west-2"] = "west" }, hosts);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "32M", "--on", "west-2");
        var plan = await bench.AskAsync("evacuate", "west-2", "--dry-run");
        Assert.Equal("west-1", plan.GetProperty("items")[0].GetProperty("destination").GetString());

        // What only the owner may read, and what no command line and no configuration holds.
        string password = File.ReadAllText(Path.Combine(bench.Directory, "postgresql.password")).Trim().Split(':')[4];
        Assert.Equal(OwnerOnly, File.GetUnixFileMode(Path.Combine(bench.Directory, "postgresql.password")));
        foreach (string control in bench.Cluster.Controls)
        {
            string config = Path.Combine(bench.Directory, control, "config.yaml");
            Assert.Equal(OwnerOnly, File.GetUnixFileMode(config));
            Assert.DoesNotContain(password, File.ReadAllText(config), StringComparison.Ordinal);
        }

        Assert.Empty(LeftOvers.Processes(words => words.Any(word => word.Contains(password, StringComparison.Ordinal))));

        var before = bench.Cluster.StoreProcess;
        await bench.Cluster.KillStoreAsync(CancellationToken.None);
        Assert.Null(bench.Cluster.StoreProcess);
        await bench.Cluster.StartStoreAsync(CancellationToken.None);
        Assert.Contains("not properly shut down", Log(), StringComparison.Ordinal);
        Assert.NotEqual(before, bench.Cluster.StoreProcess);
        await ClusterBench.EventuallyAsync(
            async () => (await bench.RunAsync("migrate", "web", "--to", "west-1", "--wait")).Exit == 0 || (await bench.Client.VmAsync(VmName.Parse("web"), CancellationToken.None)).Host?.Value == "west-1",
            "a move after the server's crash");

        int said = Log().Length;
        await bench.Cluster.StopStoreAsync(CancellationToken.None);
        await bench.Cluster.StartStoreAsync(CancellationToken.None);
        Assert.DoesNotContain("not properly shut down", Log()[said..], StringComparison.Ordinal);

        string Log() => File.ReadAllText(Path.Combine(bench.Directory, "postgresql.log"));
    }

    [SkippableFact]
    public async Task A_killed_foreground_cluster_ends_its_server_and_down_clears_it_away()
    {
        Skip.IfNot(TemporaryPostgres.Unavailable() is null, TemporaryPostgres.Unavailable());
        string root = Directory.CreateTempSubdirectory("fe-").FullName;
        string directory = Path.Combine(root, "c");
        File.SetUnixFileMode(root, File.GetUnixFileMode(root) | UnixFileMode.OtherExecute);
        string file = Path.Combine(root, "small.yaml");
        await File.WriteAllTextAsync(file, "name: small\ncontrol_nodes: [control]\nhosts: [{name: alpha}]\nstore: {postgresql: managed}\n");
        using var deadline = new CancellationTokenSource(TimeSpan.FromMinutes(2));
        var start = new ProcessStartInfo("dotnet", [typeof(LocalCluster).Assembly.Location, "up", "--config", file, "--dir", directory]) { UseShellExecute = false, RedirectStandardOutput = true };
        using var cli = Process.Start(start)!;
        try
        {
            Assert.Contains("NAME", await cli.StandardOutput.ReadLineAsync(deadline.Token), StringComparison.Ordinal); // it is up
            var record = ClusterFile.Read(directory)!;
            using var server = ProcessHandle.TryOpen(record.Store!.Process!);
            Assert.NotNull(server);
            cli.Kill();
            using var watch = new DeathWatch();
            await watch.WhenExited(server).WaitAsync(deadline.Token);

            var down = Process.Start(new ProcessStartInfo("dotnet", [typeof(LocalCluster).Assembly.Location, "down", "--dir", directory]) { UseShellExecute = false, RedirectStandardError = true })!;
            await down.WaitForExitAsync(deadline.Token);
            Assert.Equal(0, down.ExitCode);
            Assert.False(Directory.Exists(directory));
            Assert.Empty(LeftOvers.Processes(words => words.Any(word => word.StartsWith(directory + "/", StringComparison.Ordinal))));
        }
        finally
        {
            cli.Kill();
            if (LocalCluster.Open(new LocalClusterOptions { Directory = directory, Daemon = "" }, TimeProvider.System) is { } left)
                await left.DownAsync(static _ => { }, CancellationToken.None);
            Directory.Delete(root, recursive: true);
        }
    }

    private static string InTree(string file)
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "Fabric.sln")))
            directory = directory.Parent;
        return Path.Combine(directory.FullName, "cluster-config", file);
    }
}
