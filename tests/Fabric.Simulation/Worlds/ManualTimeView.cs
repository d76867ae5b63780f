using Fabric.Actors.Testing;

namespace Fabric.Simulation.Worlds;

/// <summary>The store's own wall clock, which may jump.</summary>
internal sealed class ManualTimeView(ManualTime world) : TimeProvider
{
    internal TimeSpan Offset { get; set; }

    public override DateTimeOffset GetUtcNow() => world.GetUtcNow() + Offset;

    public override long TimestampFrequency => world.TimestampFrequency;

    public override long GetTimestamp() => world.GetTimestamp();
}
