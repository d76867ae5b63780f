using Xunit;

namespace Fabric.Chaos.Cluster;

/// <summary>The tests that share one cluster of three control nodes over PostgreSQL.</summary>
[CollectionDefinition(Name)]
public sealed class TrioCollection : ICollectionFixture<TrioCluster>
{
    public const string Name = "trio";
}
