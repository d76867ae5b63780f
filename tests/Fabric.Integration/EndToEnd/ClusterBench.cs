using System.Collections.ObjectModel;
using System.Text.Json;
using Fabric.Cli;
using Fabric.Cli.Local;
using Fabric.Native;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Integration.EndToEnd;

/// <summary>What one command of the CLI said and how it ended.</summary>
internal sealed record Said(int Exit, string Out, string Talk)
{
    /// <summary>Everything, for the message of an assertion.</summary>
    public override string ToString() => $"exit {Exit}\n{Out}\n{Talk}";
}

/// <summary>
/// A local cluster of real daemons for one test, and the CLI on it. Its end takes everything down and checks that nothing is left.
/// </summary>
internal sealed class ClusterBench : IAsyncDisposable
{
    private readonly LocalCluster _cluster;

    private ClusterBench(LocalCluster cluster)
    {
        _cluster = cluster;
        Client = new ControlClient(cluster.ApiUrls, TimeProvider.System, new Random());
    }

    internal LocalCluster Cluster => _cluster;

    internal ControlClient Client { get; }

    internal string Directory => _cluster.Directory;

    internal static string Daemon => DaemonProgram.Find(Environment.GetEnvironmentVariable);

    internal static void RequireQemu()
    {
        string? lack = Preflight.WhyNot(Preflight.Run(new PreflightOptions()));
        Skip.IfNot(lack is null, lack);
    }

    internal static void RequireKvm() =>
        Skip.IfNot(Preflight.Run(new PreflightOptions()).Single(c => c.Name == "kvm").Ok, "/dev/kvm cannot be used");

    internal static Task<ClusterBench> StartAsync(int hosts, int controls = 1, bool timed = false) => StartAsync(ClusterTopology.Of(controls, hosts, null), timed);

    /// <param name="topology">Its members.</param>
    /// <param name="timed">The test looks at how long guests stand: daemons as in production, and not hasty ones.</param>
    internal static async Task<ClusterBench> StartAsync(ClusterTopology topology, bool timed = false)
    {
        string directory = System.IO.Directory.CreateTempSubdirectory("fe-").FullName;
        var cluster = LocalCluster.Create(
            new LocalClusterOptions { Directory = directory, Daemon = Daemon, Topology = topology, Ephemeral = true, Environment = timed ? ReadOnlyDictionary<string, string>.Empty : HastyDaemons.Environment },
            TimeProvider.System,
            new Random());
        try
        {
            await cluster.StartAsync(CancellationToken.None);
            return new ClusterBench(cluster);
        }
        catch
        {
            await cluster.DownAsync(_ => { }, CancellationToken.None);
            throw;
        }
    }

    /// <summary>Runs a command as a user would, without a terminal.</summary>
    internal Task<Said> RunAsync(params string[] words) => RunAsync(CancellationToken.None, words);

    /// <summary>The same, with a Ctrl-C.</summary>
    internal async Task<Said> RunAsync(CancellationToken interrupt, params string[] words)
    {
        using var data = new StringWriter();
        using var talk = new StringWriter();
        var context = new CliContext(data, talk, OutIsTerminal: false, TalkIsTerminal: false, Variable, TimeProvider.System, new Random(), interrupt);
        int exit = await CommandLine.RunAsync(words, context);
        return new Said(exit, data.ToString(), talk.ToString());

        string? Variable(string name) => name == "FABRIC_DIR" ? Directory : name is "FABRIC_API" or "FABRIC_SERVER" ? null : Environment.GetEnvironmentVariable(name);
    }

    /// <summary>The same, and it must succeed.</summary>
    internal async Task<Said> DoAsync(params string[] words)
    {
        var said = await RunAsync(words);
        Assert.True(said.Exit == ExitCode.Done, $"fabric {string.Join(' ', words)}: {said}");
        return said;
    }

    /// <summary>The same with <c>-o json</c>.</summary>
    internal async Task<JsonElement> AskAsync(params string[] words)
    {
        var said = await DoAsync([.. words, "-o", "json"]);
        using var json = JsonDocument.Parse(said.Out);
        return json.RootElement.Clone();
    }

    /// <summary>An address out of a member's ready.json.</summary>
    internal Uri UrlOf(string member, string key)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_cluster.StateOf(member), "ready.json")));
        return new Uri(json.RootElement.GetProperty(key).GetString()!);
    }

    internal string LogOf(string member) => File.ReadAllText(Path.Combine(Directory, member, "fabricd.log"));

    /// <summary>Waits for something that other processes bring about, with a deadline.</summary>
    internal static Task EventuallyAsync(Func<Task<bool>> condition, string what, int seconds = 60) => EventuallyAsync(condition, () => what, seconds);

    /// <param name="condition">Looked at every 50 ms.</param>
    /// <param name="what">What is waited for, asked when it did not come.</param>
    /// <param name="seconds">How long at most.</param>
    internal static async Task EventuallyAsync(Func<Task<bool>> condition, Func<string> what, int seconds = 60)
    {
        long started = TimeProvider.System.GetTimestamp();
        while (!await condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(started).TotalSeconds < seconds, $"Not within {seconds} s: {what()}.");
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        var left = await _cluster.DownAsync(_ => { }, CancellationToken.None);
        Assert.Empty(left);
        Assert.False(System.IO.Directory.Exists(Directory), $"{Directory} is left");
    }
}
