using System.Collections.ObjectModel;
using Fabric.Benchmarks.Moving;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.Lab;

/// <summary>A local cluster whose hosts live in a laboratory: its daemons, and the guests' QEMU processes, have nothing but their links. Disposing it takes down both.</summary>
public sealed class LabCluster : IAsyncDisposable
{
    private static readonly TimeSpan MoveWithin = TimeSpan.FromSeconds(120);

    private readonly TimeProvider _time;

    private LabCluster(LinkLab lab, LocalCluster cluster, TimeProvider time)
    {
        _time = time;
        Lab = lab;
        Cluster = cluster;
        Client = new ControlClient(cluster.ApiUrls, time, new Random());
    }

    public LinkLab Lab { get; }

    public LocalCluster Cluster { get; }

    public ControlClient Client { get; }

    /// <summary>What could not be taken down, in words; set by disposing.</summary>
    public IReadOnlyList<string> Left { get; private set; } = [];

    /// <param name="hosts">How many.</param>
    /// <param name="shape">Of every host's link; null: as fast as this machine is.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends the start; nothing is left then.</param>
    /// <param name="environment">Variables of every daemon; null: none of its own.</param>
    public static async Task<LabCluster> StartAsync(
        int hosts, LinkShape? shape, TimeProvider time, CancellationToken cancellation, IReadOnlyDictionary<string, string>? environment = null)
    {
        var topology = ClusterTopology.Of(controls: 1, hosts, database: null);
        var lab = LinkLab.Build([.. topology.Hosts.Select(static h => h.Name)], shape);
        LocalCluster? cluster = null;
        try
        {
            var options = new LocalClusterOptions
            {
                Directory = Directory.CreateTempSubdirectory("flab-").FullName,
                Daemon = DaemonProgram.Find(Environment.GetEnvironmentVariable),
                Topology = topology,
                Places = lab.Places(topology.Controls),
                Ephemeral = true,
                Environment = environment ?? ReadOnlyDictionary<string, string>.Empty,
            };
            cluster = LocalCluster.Create(options, time, new Random());
            await cluster.StartAsync(cancellation);
            return new LabCluster(lab, cluster, time);
        }
        catch
        {
            if (cluster is not null)
                await cluster.DownAsync(static _ => { }, CancellationToken.None);
            lab.Dispose();
            throw;
        }
    }

    /// <summary>Moves a VM and waits for the end of the migration.</summary>
    /// <exception cref="FabricException">machine-failed: it ended otherwise than completed; deadline-exceeded: it did not end within two minutes.</exception>
    public async Task<MigrationReport> MoveAsync(VmName vm, HostName to, MigrationOptions options, CancellationToken cancellation) =>
        Moves.Completed(await Moves.EndedAsync(Client, new MigrateRequest(vm, to, options, null), MoveWithin, _time, cancellation), $"The {options.Mode} move of '{vm}' to {to}");

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        Left = await Cluster.DownAsync(static _ => { }, CancellationToken.None);
        Lab.Dispose();
    }
}
