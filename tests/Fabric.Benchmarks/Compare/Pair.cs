using Fabric.Benchmarks.Lab;
using Fabric.Cli.Local;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>The two hosts of every comparison, by the names that a local cluster gives them.</summary>
internal static class Pair
{
    internal static HostName Source { get; } = HostName.Parse("alpha");

    internal static HostName Destination { get; } = HostName.Parse("beta");

    internal static IReadOnlyList<string> Hosts { get; } = [Source.Value, Destination.Value];

    /// <summary>Where a process of a host runs, and its address; on loopback without a laboratory.</summary>
    internal static MemberPlace Place(LinkLab? lab, HostName host) => lab?.Places([]).GetValueOrDefault(host.Value) ?? MemberPlace.Here;
}
