namespace Fabric.Core;

/// <summary>Makes pauses random, so that those who began to wait together do not come back together. Any thread; the generator is its own from here on.</summary>
public sealed class Jitter(Random random)
{
    private readonly Lock _gate = new();

    /// <summary>Half to all of <paramref name="delay"/>.</summary>
    public TimeSpan Of(TimeSpan delay) => delay * (0.5 + (Next() / 2));

    /// <summary><paramref name="delay"/>, up to <paramref name="share"/> of it less or more.</summary>
    public TimeSpan Around(TimeSpan delay, double share) => delay * (1 - share + (2 * share * Next()));

    private double Next()
    {
        lock (_gate)
            return random.NextDouble();
    }
}
