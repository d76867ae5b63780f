using System.Text.Json;
using Fabric.Cli;
using Fabric.Core;
using Xunit;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// Three control nodes as processes; the one that the CLI talks to is killed under it. The proof: the commands' own exit codes and words, and for the events that what was followed is, name
/// by name, what the journal holds afterwards.
/// </summary>
public sealed class FailOverTests
{
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(2);

    [Fact]
    public async Task A_watched_move_and_followed_events_outlive_the_node_that_was_asked()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 2, controls: 3);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "96M", "--workload", "read-heavy:7:80M:20000", "--on", "alpha");
        var known = await NamesAsync(bench);
        using var end = new CancellationTokenSource();
        var following = bench.RunAsync(end.Token, "events", "-f", "-o", "name");
        await SettleAsync(bench); // the follower has asked for its place before anything happens

        // The guest has written for two seconds at 8 MiB/s and goes on: some seconds on the wire, long enough for the kill to come in the middle.
        var moving = bench.RunAsync("migrate", "web", "--to", "beta", "--mode", "pre-copy", "--bandwidth", "16M", "--wait");
        string state = "unknown";
        await ClusterBench.EventuallyAsync(
            async () =>
            {
                Assert.False(moving.IsCompleted, moving.IsCompletedSuccessfully ? (await moving).ToString() : "the command broke");
                state = string.Join(", ", (await bench.Client.MigrationsAsync(CancellationToken.None)).Select(static m => m.State));
                return state == "pushing";
            },
            () => $"the move pushes, it is '{state}'");
        await bench.Cluster.KillAsync(bench.Cluster.Controls[0], CancellationToken.None);
        Assert.False(moving.IsCompleted, "the move was over before the node was killed");

        var moved = await moving.WaitAsync(Deadline);
        Assert.True(moved.Exit == ExitCode.Done, moved.ToString());
        Assert.Contains("Going on with", moved.Talk, StringComparison.Ordinal);
        // This client may ask another node than the command went on with: one that reads the move a period later.
        await ClusterBench.EventuallyAsync(async () => (await bench.Client.VmAsync(VmName.Parse("web"), CancellationToken.None)).Host?.Value == "beta", "the VM is at beta", seconds: 5);

        // What follows the move is over when nothing new comes: then the follower is given the time of two looks.
        var all = await NamesAsync(bench);
        await ClusterBench.EventuallyAsync(
            async () =>
            {
                var before = all;
                await SettleAsync(bench);
                all = await NamesAsync(bench);
                return all.SequenceEqual(before);
            },
            "the journal is quiet");
        await end.CancelAsync();
        var followed = Lines((await following.WaitAsync(Deadline)).Out);
        Assert.Equal(followed.Count, followed.Distinct().Count());
        Assert.Contains(followed, static name => name.StartsWith("migration/", StringComparison.Ordinal));
        Assert.Equal(all.Except(known).Order(StringComparer.Ordinal), followed.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task A_dead_node_is_stepped_over_and_no_node_at_all_is_said()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 1, controls: 3);
        await bench.Cluster.KillAsync(bench.Cluster.Controls[0], CancellationToken.None);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "16M", "--on", "alpha");
        string dead = bench.Cluster.ApiUrls[0].ToString();
        string alive = bench.Cluster.ApiUrls[2].ToString();
        Assert.Equal("web", Assert.Single((await bench.AskAsync("vm", "list", "--server", dead + "," + alive)).EnumerateArray()).GetProperty("name").GetString());
        Assert.Equal(JsonValueKind.Array, (await bench.AskAsync("vm", "list", "--server", dead, "--server", alive)).ValueKind);
        var said = await bench.RunAsync("vm", "list", "--server", dead);
        Assert.Equal(ExitCode.Failed, said.Exit);
        Assert.Contains("[unreachable]", said.Talk, StringComparison.Ordinal);
    }

    private static Task SettleAsync(ClusterBench bench) => bench.Client.WaitChangeAsync(long.MaxValue, TimeSpan.FromSeconds(2), CancellationToken.None);

    private static async Task<IReadOnlyList<string>> NamesAsync(ClusterBench bench) => Lines((await bench.DoAsync("events", "-o", "name")).Out);

    private static List<string> Lines(string text) => [.. text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)];
}
