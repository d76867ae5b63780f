using Xunit;

namespace Fabric.Unit;

/// <summary>Waits for what other threads bring about and nothing tells of. Asks every few milliseconds, of the machine's clock; a test whose clock is its own does not need it.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);

    /// <param name="condition">May be asked many times.</param>
    /// <param name="what">For the failure, with what is so then.</param>
    /// <param name="within">Then the test has failed.</param>
    internal static async Task HoldsAsync(Func<Task<bool>> condition, Func<string> what, TimeSpan within)
    {
        for (long began = TimeProvider.System.GetTimestamp(); !await condition(); await Task.Delay(Pause, TimeProvider.System, CancellationToken.None))
            Assert.True(TimeProvider.System.GetElapsedTime(began) < within, $"Not within {within.TotalSeconds} s: {what()}");
    }

    internal static Task HoldsAsync(Func<bool> condition, Func<string> what, TimeSpan within) => HoldsAsync(() => Task.FromResult(condition()), what, within);
}
