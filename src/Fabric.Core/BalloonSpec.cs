namespace Fabric.Core;

/// <summary>
/// A VM's own loop, which takes what is free in the guest into its balloon and gives it back when the guest needs it, at every host, for as long as the VM lives
/// (docs/decisions/0010-self-ballooning.md).
/// </summary>
/// <param name="IntervalMs">
/// Between two looks at the guest, in milliseconds; <see cref="LeastIntervalMs"/> to <see cref="MostIntervalMs"/>. A guest reports once a second: a shorter interval sees only sooner
/// that it took memory back by itself.
/// </param>
public sealed record BalloonSpec(int IntervalMs = BalloonSpec.PaperIntervalMs)
{
    /// <summary>The interval at which the paper found the loop to cost next to nothing.</summary>
    public const int PaperIntervalMs = 5000;

    public const int LeastIntervalMs = 500;

    public const int MostIntervalMs = 600_000;

    public TimeSpan Interval() => TimeSpan.FromMilliseconds(IntervalMs);

    /// <summary>What is wrong with it and how it is right, or null.</summary>
    public (string What, string Hint)? Fault() => IntervalMs is < LeastIntervalMs or > MostIntervalMs
        ? ($"a balloon that is looked after every {IntervalMs} ms", $"Use {LeastIntervalMs} to {MostIntervalMs} ms.")
        : null;
}
