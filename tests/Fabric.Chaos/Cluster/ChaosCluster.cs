using System.Globalization;
using Fabric.Chaos.Rows;
using Fabric.Cli.Local;
using Fabric.Integration.Guests;
using Fabric.Native;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Chaos.Cluster;

/// <summary>
/// Three real fabricd processes whose steps come by <see cref="Steps"/>, for all rows of a class. A row that fails has the cluster made anew, so
/// that it cannot make the next one fail.
/// </summary>
public sealed class ChaosCluster : IAsyncLifetime
{
    private static readonly string[] Members = [Step.Control, Step.Source, Step.Destination];

    private Parts? _parts;
    private int _rows;

    /// <summary>Why nothing can be run here, or null.</summary>
    internal static string? Unavailable { get; } = Preflight.WhyNot(Preflight.Run(new PreflightOptions { MemoryBytes = 0 }));

    internal LocalCluster Local => Now.Local;

    internal StepSocket Steps => Now.Steps;

    internal ControlClient Client => Now.Client;

    /// <summary>An image that boots into the guest which is its own oracle.</summary>
    internal string Disk => Path.Combine(Now.Directory, "disk.img");

    private Parts Now => _parts ?? throw new InvalidOperationException("The cluster is not up.");

    public Task InitializeAsync() => Task.CompletedTask;

    public Task DisposeAsync() => DownAsync();

    internal string NextVm() => string.Create(CultureInfo.InvariantCulture, $"c{++_rows}");

    internal async Task UpAsync(CancellationToken cancellation)
    {
        if (_parts is not null)
            return;
        string directory = Directory.CreateTempSubdirectory("fc-").FullName;
        string socket = Path.Combine(directory, "steps");
        var steps = new StepSocket(socket);
        var options = new LocalClusterOptions
        {
            Directory = Path.Combine(directory, "c"),
            Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable),
            Hosts = 2,
            Ephemeral = true,
            Environment = new Dictionary<string, string> { ["FABRIC_STEPS"] = socket },
        };
        var local = LocalCluster.Create(options, TimeProvider.System, new Random());
        try
        {
            await local.StartAsync(cancellation);
        }
        catch
        {
            await local.DownAsync(static _ => { }, CancellationToken.None);
            await steps.DisposeAsync();
            Directory.Delete(directory, recursive: true);
            throw;
        }

        _parts = new Parts(directory, local, steps, new ControlClient(local.ApiUrl));
        await File.WriteAllBytesAsync(Disk, BootBlock.Image(Outside.RangeEnd), cancellation);
    }

    /// <summary>Takes everything down; fails when something is left.</summary>
    internal async Task DownAsync()
    {
        if (_parts is not { } parts)
            return;
        _parts = null;
        parts.Steps.OnStep = static _ => Task.CompletedTask;
        var left = await parts.Local.DownAsync(static _ => { }, CancellationToken.None);
        parts.Client.Dispose();
        await parts.Steps.DisposeAsync();
        if (left.Count == 0)
            Directory.Delete(parts.Directory, recursive: true);
        Assert.Empty(left);
    }

    /// <summary>Starts every member that does not run; one that was killed while it started counts as such.</summary>
    internal async Task StartTheDeadAsync(CancellationToken cancellation)
    {
        foreach (string member in Members.Where(m => Local.ProcessOf(m) is null))
            await Local.StartAsync(member, cancellation);
    }

    private sealed record Parts(string Directory, LocalCluster Local, StepSocket Steps, ControlClient Client);
}
