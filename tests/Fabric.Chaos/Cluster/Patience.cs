using System.Data.Common;
using Fabric.Core;
using Xunit;

namespace Fabric.Chaos.Cluster;

/// <summary>Waiting for what other processes bring about: asked again and again, with a deadline.</summary>
internal static class Patience
{
    private static readonly TimeSpan Between = TimeSpan.FromMilliseconds(25);

    /// <summary>Until <paramref name="problem"/> says null; fails with what it said last, and first where that was something else.</summary>
    internal static async Task UntilAsync(string what, TimeSpan within, Func<Task<string?>> problem, CancellationToken cancellation)
    {
        long began = TimeProvider.System.GetTimestamp();
        string? first = null;
        while (true)
        {
            string? last = await Ask(problem);
            if (last is null)
                return;
            first ??= last;
            if (TimeProvider.System.GetElapsedTime(began) > within)
                Assert.Fail($"Not within {within.TotalSeconds:0} s: {what}. {last}{(first == last ? "" : $" At first: {first}")}");
            await Task.Delay(Between, TimeProvider.System, cancellation);
        }
    }

    private static async Task<string?> Ask(Func<Task<string?>> problem)
    {
        try
        {
            return await problem();
        }
        catch (Exception away) when (away is FabricException or HttpRequestException or IOException or DbException)
        {
            return away.Message; // a member or a database that was killed or is just being started; a file of a process that just ended
        }
    }
}
