using Fabric.Integration.Balloon;
using Xunit;
using Xunit.Abstractions;

[assembly: TestCollectionOrderer("Fabric.Integration.LongestFirst", "Fabric.Integration")]

namespace Fabric.Integration;

/// <summary>Two classes at a time: one that takes a minute would otherwise run alone for most of it, when it happens to come last.</summary>
public sealed class LongestFirst : ITestCollectionOrderer
{
    public IEnumerable<ITestCollection> OrderTestCollections(IEnumerable<ITestCollection> testCollections) =>
        testCollections.OrderByDescending(c => c.DisplayName.Contains(nameof(SelfBalloonTests), StringComparison.Ordinal));
}
