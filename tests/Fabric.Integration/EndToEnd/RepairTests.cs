using Fabric.Cli;
using Xunit;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// Repair with real processes: the control node's store is replaced by an older copy, so that it says where a VM was and the hosts know where it is. Its synthetic guest checks its own
/// memory; that it moves again afterwards shows that the repaired journal's epochs are above the agents'.
/// </summary>
public sealed class RepairTests
{
    [Fact]
    public async Task A_store_that_went_back_in_time_is_repaired_from_the_hosts()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 2);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "32M", "--workload", "write-heavy:7:8M:500", "--on", "alpha");
        string old = Path.Combine(bench.Directory, "control", "old");
        await WhileStoppedAsync(bench, state => Copy(state, old));
        await bench.DoAsync("migrate", "web", "--to", "beta", "--wait");
        await WhileStoppedAsync(bench, state => Copy(old, state));
        Assert.Equal("alpha", (await bench.AskAsync("vm", "show", "web")).GetProperty("host").GetString());

        // A host that does not answer might have it as well.
        await bench.Cluster.StopAsync("alpha", CancellationToken.None);
        Said? refused = null;
        await ClusterBench.EventuallyAsync(
            async () => (refused = await bench.RunAsync("migration", "repair", "web")).Exit != ExitCode.Failed, "the control node has waited for hosts to register"); // unreachable until then
        Assert.True(refused!.Exit == ExitCode.Refused, refused.ToString());
        Assert.Contains("'alpha'", refused.Talk, StringComparison.Ordinal);
        Assert.Contains("beta", refused.Out, StringComparison.Ordinal);
        await bench.Cluster.StartAsync("alpha", CancellationToken.None);
        await HostsAreBackAsync(bench);

        var report = await bench.AskAsync("migration", "repair", "web", "--reason", "restored from the copy of yesterday");
        Assert.Equal("adopted", report.GetProperty("outcome").GetString());
        Assert.Equal("beta", report.GetProperty("owner").GetString());
        Assert.Equal("beta", (await bench.AskAsync("vm", "show", "web")).GetProperty("host").GetString());
        Assert.Equal("agrees", (await bench.AskAsync("migration", "repair", "web")).GetProperty("outcome").GetString());
        await bench.DoAsync("migrate", "web", "--to", "alpha", "--verify", "full", "--wait");
        await bench.DoAsync("vm", "delete", "web");
    }

    private static async Task WhileStoppedAsync(ClusterBench bench, Action<string> change)
    {
        await bench.Cluster.StopAsync("control", CancellationToken.None);
        change(bench.Cluster.StateOf("control"));
        await bench.Cluster.StartAsync("control", CancellationToken.None);
        await HostsAreBackAsync(bench);
    }

    private static Task HostsAreBackAsync(ClusterBench bench) => ClusterBench.EventuallyAsync(
        async () => (await bench.Client.HostsAsync(CancellationToken.None)).Count(static h => h.State == "ready") == 2, "both hosts are ready");

    /// <summary>The store's files, and no others of the target's.</summary>
    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string file in Directory.GetFiles(to, "journal.db*"))
            File.Delete(file);
        foreach (string file in Directory.GetFiles(from, "journal.db*"))
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
    }
}
