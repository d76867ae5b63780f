using System.Globalization;
using Fabric.Core;
using Fabric.Integration.Qemu;
using Fabric.Migration;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Integration.Balloon;

/// <summary>
/// Self-ballooning with Linux guests under QEMU. That free pages are not sent is proven by the pages that the destination counted, against what the guest said was free; that nobody loses
/// memory, by the balloon's size at the destination and by the guest's own checker; that nothing is killed, by the guest kernel's count of kills.
/// </summary>
public sealed class SelfBalloonTests(ITestOutputHelper output)
{
    /// <summary>Of what is free: not sent at least.</summary>
    private const double Share = 0.95;

    /// <summary>Pages of the guest that is given memory in pieces, which its own reporting of free pages does not find: they would all be sent.</summary>
    private const string Freed = "fabric.workload=freed fabric.mb=16 fabric.rate=8000 fabric.free-mb=150 fabric.keep=64";

    /// <summary>One that writes little: what it writes while it is pushed is sent again, and on a busy host that was more than the twentieth of what is free.</summary>
    private const string FreedAndCalm = "fabric.workload=freed fabric.mb=2 fabric.rate=1000 fabric.free-mb=150 fabric.keep=64";

    [SkippableFact]
    public async Task Free_pages_are_not_sent_by_pre_copy()
    {
        await using var pair = await BalloonPair.StartAsync(FreedAndCalm);
        await pair.SaysAsync("ORACLE ok");
        long free = await FreeAsync(pair);
        var all = await pair.MoveAsync(new MigrationOptions(MigrationMode.PreCopy));
        output.WriteLine(Line("pre-copy without", free, all));
        Assert.True(all.PagesSent + all.PagesZero > MostSent(free), "Without a balloon as little was sent: nothing is proved.");
        await pair.ChecksItsMemoryAsync();

        await MoveBallooningAsync(pair, MigrationMode.PreCopy);
    }

    [SkippableFact]
    public async Task Free_pages_are_not_sent_by_post_copy()
    {
        await using var pair = await BalloonPair.StartAsync(Freed);
        await pair.SaysAsync("ORACLE ok");
        await MoveBallooningAsync(pair, MigrationMode.PostCopy);
    }

    private async Task MoveBallooningAsync(BalloonPair pair, MigrationMode mode)
    {
        await pair.HasItsMemoryAsync();
        long free = await FreeAsync(pair);
        var stats = await pair.MoveAsync(new MigrationOptions(mode, Verify: VerifyLevel.Full, Balloon: BalloonUse.Auto));
        output.WriteLine(Line($"{mode} with", free, stats));
        Assert.InRange(stats.PagesSent + stats.PagesZero, 1, MostSent(free));
        await pair.HasItsMemoryAsync();
        await pair.ChecksItsMemoryAsync();
    }

    /// <summary>
    /// A guest that takes nearly all of its memory as fast as it can, at a random moment of an inflation. FABRIC_BALLOON_TRIES says how often; a machine without deflate-on-oom loses a process
    /// in the first tries.
    /// </summary>
    [SkippableFact]
    public async Task A_guest_that_takes_all_of_its_memory_in_the_middle_loses_no_process()
    {
        int tries = Setting("FABRIC_BALLOON_TRIES", 2);
        int seed = Setting("FABRIC_BALLOON_SEED", 1);
        await using var pair = await BalloonPair.StartAsync($"fabric.workload=grab fabric.mb=170 fabric.free-mb=120 fabric.seed={seed}");
        for (int i = 1; i <= tries; i++)
        {
            await pair.SaysAsync($"GRAB armed try={i}\n");
            await pair.HasItsMemoryAsync();
            await BalloonUntilAsync(pair, $" try={i} inflated_kb=");
            await pair.HasItsMemoryAsync();
        }

        NothingWasKilled(pair, tries);
    }

    /// <summary>
    /// A loop of the guest's own fills the balloon long before; the moves take nothing. Whether the balloon is still full after each of them, and nothing but the loop holds it there, is read from
    /// the balloon.
    /// </summary>
    [SkippableFact]
    public async Task A_guest_with_a_loop_of_its_own_keeps_its_balloon_over_moves_and_its_free_pages_are_not_sent()
    {
        await using var pair = await BalloonPair.StartAsync(FreedAndCalm, new BalloonSpec(BalloonSpec.LeastIntervalMs));
        await pair.SaysAsync("ORACLE ok");
        foreach (var mode in new[] { MigrationMode.PreCopy, MigrationMode.PostCopy })
        {
            long held = await pair.HoldsAsync(150 * ByteSize.Mebi);
            var stats = await pair.MoveAsync(new MigrationOptions(mode, Verify: VerifyLevel.Full));
            output.WriteLine(Line($"{mode} with a loop", held, stats));
            Assert.InRange(stats.PagesSent + stats.PagesZero, 1, BalloonPair.Pages - (long)(held / VmSpec.PageSize * Share));
            await pair.ChecksItsMemoryAsync();
            Assert.InRange(await pair.Balloon.QueryActualAsync(CancellationToken.None), 1, BalloonPair.MemoryBytes - (held * 9 / 10));
        }
    }

    /// <summary>
    /// As above, under a loop that goes on all the time: here nobody pushes, and the guest takes its memory at random moments of all that the loop does. The loop learns what the guest uses and waits ever
    /// longer before it takes that again, so no guest is asked for many tries.
    /// </summary>
    [SkippableFact]
    public async Task A_guest_with_a_loop_of_its_own_that_takes_all_of_its_memory_loses_no_process()
    {
        const int OfOneGuest = 10;
        int tries = Setting("FABRIC_BALLOON_TRIES", 2);
        int seed = Setting("FABRIC_BALLOON_SEED", 1);
        for (int done = 0; done < tries; done += OfOneGuest, seed++)
        {
            int some = Math.Min(OfOneGuest, tries - done);
            await using var pair = await BalloonPair.StartAsync($"fabric.workload=grab fabric.mb=170 fabric.free-mb=120 fabric.seed={seed}", new BalloonSpec(BalloonSpec.LeastIntervalMs));
            for (int i = 1; i <= some; i++)
                await pair.SaysAsync($" try={i} inflated_kb=");
            NothingWasKilled(pair, some);
        }
    }

    private static int Setting(string name, int otherwise) =>
        Environment.GetEnvironmentVariable(name) is { } said ? int.Parse(said, CultureInfo.InvariantCulture) : otherwise;

    private void NothingWasKilled(BalloonPair pair, int tries)
    {
        string said = pair.Console();
        foreach (string line in said.Split('\n').Where(l => l.StartsWith("GRAB ok", StringComparison.Ordinal) || l.StartsWith("GRAB ERROR", StringComparison.Ordinal)))
            output.WriteLine(line);

        // The guest goes on by itself: what fills the balloon may have met it once more.
        Assert.InRange(said.Split('\n').Count(l => l.StartsWith("GRAB ok", StringComparison.Ordinal)), tries, tries + 1);
        Assert.DoesNotContain("GRAB ERROR", said, StringComparison.Ordinal);
        Assert.DoesNotContain("Out of memory", said, StringComparison.Ordinal);
        Assert.DoesNotContain("oom-kill", said, StringComparison.Ordinal);
    }

    /// <summary>
    /// Pushes to nobody until the guest has taken its memory. One is not always enough: a push that finds the balloon on its way back moves the guest as it is, and on a busy host the guest may
    /// not get as far as it waits for.
    /// </summary>
    private static async Task BalloonUntilAsync(BalloonPair pair, string said)
    {
        long began = TimeProvider.System.GetTimestamp();
        while (!pair.Console().Contains(said, StringComparison.Ordinal))
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < QemuBench.Patience, $"The guest never said '{said}':\n{pair.Console()}");
            if (!await pair.IsPushingAsync())
                await pair.PushToNobodyAsync();
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
        }

        while (await pair.IsPushingAsync())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < QemuBench.Patience, "The push to nobody did not end.");
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }
    }

    private static async Task<long> FreeAsync(BalloonPair pair)
    {
        long free = 0;
        long began = TimeProvider.System.GetTimestamp();

        // A report that was made after the guest had come to rest: two in a row agree.
        for (DateTimeOffset? at = null; ; await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System))
        {
            Assert.True(TimeProvider.System.GetElapsedTime(began) < QemuBench.Patience, "The guest does not report its memory.");
            if (await pair.Balloon.QueryStatisticsAsync(CancellationToken.None) is not { Free: { } now, ReportedAt: { } reported } || reported == at)
                continue;
            bool settled = at is not null && Math.Abs(now - free) < 4 * ByteSize.Mebi;
            (free, at) = (now, reported);
            if (settled)
                return free;
        }
    }

    private static long MostSent(long free) => BalloonPair.Pages - (long)(free / VmSpec.PageSize * Share);

    private static string Line(string what, long free, MigrationStats stats) => string.Create(
        CultureInfo.InvariantCulture, $"{what} balloon: {ByteSize.Format(free)} free; {stats.PagesSent} pages and {stats.PagesZero} zero pages came of {BalloonPair.Pages}, at most {MostSent(free)} with");
}
