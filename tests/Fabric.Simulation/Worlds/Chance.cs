namespace Fabric.Simulation.Worlds;

/// <summary>One stream of chance, drawn from the world's seed.</summary>
internal sealed class Chance(int seed)
{
    private readonly Random _random = new(seed);

    internal int Below(int end) => _random.Next(end);

    internal int Between(int first, int last) => _random.Next(first, last + 1);

    internal bool Share(double share) => share > 0 && _random.NextDouble() < share;

    internal TimeSpan Milliseconds(double from, double to) => TimeSpan.FromMilliseconds(from + ((to - from) * _random.NextDouble()));

    internal Random NewRandom() => new(_random.Next());
}
