using Fabric.Integration.Balloon;
using Fabric.Integration.EndToEnd;
using Fabric.Integration.Network;
using Fabric.Integration.Postgres;
using Xunit;
using Xunit.Abstractions;

[assembly: TestCollectionOrderer("Fabric.Integration.LongestFirst", "Fabric.Integration")]

namespace Fabric.Integration;

/// <summary>Two classes at a time: one that takes a minute would otherwise run alone for most of it, when it happens to come last.</summary>
public sealed class LongestFirst : ITestCollectionOrderer
{
    private static readonly string[] Long = [nameof(SelfBalloonTests), PostgresCollection.Name, nameof(NicTests), nameof(FailOverTests), nameof(HostileInputTests), nameof(ShortSoakTests)];

    public IEnumerable<ITestCollection> OrderTestCollections(IEnumerable<ITestCollection> testCollections) => testCollections.OrderBy(static collection =>
    {
        int place = Array.FindIndex(Long, name => collection.DisplayName.Contains(name, StringComparison.Ordinal));
        return place < 0 ? Long.Length : place;
    });
}
