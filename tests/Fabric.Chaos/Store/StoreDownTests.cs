using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Chaos.Store;

/// <summary>
/// PostgreSQL crashes in the middle of many migrations, pushes and pulls, and is away for longer than any lease. How it proves its claim: each guest writes its heartbeat to the
/// serial line, which is looked at from outside all through; its own checker counts its memory; the numbers of its beats must be unbroken over the move; a watch sees a
/// guest that writes at one host after it ran at the other; and all migrations must end completed once the database is back.
/// </summary>
[Collection(TrioCollection.Name)]
public sealed class StoreDownTests(TrioCluster cluster, ITestOutputHelper output)
{
    private static readonly TimeSpan Within = TimeSpan.FromSeconds(600);
    private static readonly TimeSpan ReadyWithin = TimeSpan.FromSeconds(180);
    private static readonly TimeSpan EndWithin = TimeSpan.FromSeconds(240);
    private static readonly TimeSpan LookEvery = TimeSpan.FromMilliseconds(50);

    /// <summary>A heartbeat comes every 250 ms; many guests share the machine's processors with everything else.</summary>
    private static readonly TimeSpan SilentAtMost = TimeSpan.FromSeconds(3);

    /// <summary>A third of the client's patience.</summary>
    private static readonly TimeSpan RefusedWithin = TimeSpan.FromSeconds(40);

    /// <summary>Of a heartbeat's line, which is some 110 bytes: five seconds of them.</summary>
    private const int SteadyBytes = 20 * 110;

    /// <summary>A guest has some 45 MB that are not zero: two minutes, or one.</summary>
    private static long PullRate => All ? 384 * 1024 : 1024 * 1024;

    /// <summary>FABRIC_CHAOS=all: ten migrations and a minute.</summary>
    private static bool All => Environment.GetEnvironmentVariable("FABRIC_CHAOS") == "all";

    private static int Guests => All ? 10 : 4;

    private static TimeSpan Away => TimeSpan.FromSeconds(All ? 60 : 12);

    [SkippableFact]
    public Task Migrations_wait_for_the_database_and_no_guest_notices()
    {
        Skip.IfNot(LinuxGuest.WhyNot is null, LinuxGuest.WhyNot);
        return cluster.RunAsync(Within, output.WriteLine, RunAsync);
    }

    private async Task RunAsync(CancellationToken cancellation)
    {
        var guests = Enumerable.Range(0, Guests).Select(i => new LinuxGuest(cluster, VmName.Parse(cluster.NextVm()))).ToList();
        foreach (var guest in guests)
            await cluster.CreateAsync(guest.Spec, cancellation);
        foreach (var guest in guests)
            await Patience.UntilAsync($"guest {guest.Name} checks its memory", ReadyWithin, () => Task.FromResult(guest.Log().OkCount > 0 ? null : "It does not."), cancellation);
        var watches = guests.Select(g => new RunWatch(g.Written, Step.Source, Step.Destination)).ToList();
        try
        {
            var asked = await StartAsync(guests, cancellation);
            await cluster.Postgres.StopAsync(crash: true);
            await LookAsync(guests, cancellation);
            await cluster.Postgres.ResumeAsync();
            await EndAsync(asked, cancellation);
            foreach (var guest in guests)
                await CheckAsync(guest, cancellation);
            Assert.All(watches, w => Assert.Null(w.Violation));
            foreach (var guest in guests)
                await cluster.DeleteAsync(guest.Name, force: false, cancellation);
        }
        finally
        {
            foreach (var watch in watches)
                await watch.DisposeAsync();
        }
    }

    /// <summary>
    /// Half of them pull, half of them push, as slowly as it takes to last. A guest that has just been resumed waits for the pages that it needs most, which are few: that is over
    /// before the looking begins.
    /// </summary>
    private async Task<IReadOnlyList<MigrationId>> StartAsync(List<LinuxGuest> guests, CancellationToken cancellation)
    {
        var pulled = guests.Where(static (_, i) => i % 2 == 0).ToList();
        var asked = new List<MigrationId>();
        foreach (var guest in pulled)
            asked.Add(await MigrateAsync(guest, new MigrationOptions(MigrationMode.PostCopy, BandwidthBytesPerSecond: PullRate), cancellation));
        foreach (var guest in pulled)
            await Patience.UntilAsync($"guest {guest.Name} runs steadily at the destination", ReadyWithin, () => Task.FromResult(guest.Written(Step.Destination) > SteadyBytes ? null : "It does not."), cancellation);
        foreach (var guest in guests.Except(pulled))
            asked.Add(await MigrateAsync(guest, new MigrationOptions(MigrationMode.PreCopy, MaxDowntimeMs: 3000, BandwidthBytesPerSecond: 2 * ByteSize.Mebi), cancellation));
        await Patience.UntilAsync("half of them push and half of them pull", ReadyWithin, async () =>
        {
            var now = await cluster.AskAsync(static (client, late) => client.MigrationsAsync(late), cancellation);
            var states = asked.Select((id, i) => (Is: now.Single(m => m.Id == id).State, Wanted: i < pulled.Count ? "pulling" : "pushing")).ToList();
            return states.All(static s => s.Is == s.Wanted) ? null : string.Join(", ", states.Select(static s => s.Is));
        }, cancellation);
        return asked;
    }

    private async Task<MigrationId> MigrateAsync(LinuxGuest guest, MigrationOptions options, CancellationToken cancellation) => (await cluster.AskAsync(
        (client, late) => client.MigrateAsync(new MigrateRequest(guest.Name, HostName.Parse(Step.Destination), options, Guid.NewGuid()), late), cancellation)).Id;

    private async Task LookAsync(List<LinuxGuest> guests, CancellationToken cancellation)
    {
        long began = TimeProvider.System.GetTimestamp();
        guests.ForEach(static g => g.BeginToLook());
        var refused = RefusedAsync(cancellation);
        while (TimeProvider.System.GetElapsedTime(began) < Away)
        {
            await Task.Delay(LookEvery, TimeProvider.System, cancellation);
            guests.ForEach(static g => g.Look());
        }

        output.WriteLine($"silent at most, in {Away.TotalSeconds:0} s without the database: {string.Join(", ", guests.Select(static g => $"{g.LongestSilence.TotalSeconds:0.00} s"))}");
        await refused;
        Assert.All(guests, static g => Assert.InRange(g.LongestSilence, TimeSpan.Zero, SilentAtMost));
    }

    /// <summary>
    /// What an operator hears who asks for something new meanwhile: an error of the control node, long before the client's own patience ends. It comes after the router's patience and one
    /// attempt, which may wait for the end of a lease.
    /// </summary>
    private async Task RefusedAsync(CancellationToken cancellation)
    {
        long asked = TimeProvider.System.GetTimestamp();
        var error = (await Assert.ThrowsAsync<FabricException>(
            () => cluster.AskAsync(static (client, late) => client.SetCordonedAsync(HostName.Parse(Step.Source), cordoned: true, reason: null, late), RefusedWithin, cancellation))).Error;
        output.WriteLine($"a request was told after {TimeProvider.System.GetElapsedTime(asked).TotalSeconds:0.0} s: {error}");
        Assert.NotEqual(ErrorCodes.DeadlineExceeded, error.Code);
    }

    private async Task EndAsync(IReadOnlyList<MigrationId> asked, CancellationToken cancellation) =>
        await Patience.UntilAsync("all migrations have completed", EndWithin, async () =>
        {
            var now = await cluster.AskAsync(static (client, late) => client.MigrationsAsync(late), cancellation);
            var states = asked.Select(id => now.FirstOrDefault(m => m.Id == id)?.State ?? "unknown").ToList();
            return states.All(static s => s == "completed") ? null : string.Join(", ", states);
        }, cancellation);

    private async Task CheckAsync(LinuxGuest guest, CancellationToken cancellation)
    {
        long checks = guest.Log().OkCount;
        await Patience.UntilAsync($"guest {guest.Name} has checked its memory again", ReadyWithin, () => Task.FromResult(guest.Log().OkCount > checks + 1 ? null : "It has not."), cancellation);
        var log = guest.Log();
        Assert.Empty(log.ErrorLines);
        Assert.True(log.IsClean);
        Assert.Equal(0, log.SequenceBreaks);
        Assert.Equal([Step.Destination], guest.Machines.Select(static m => m.Host));
    }
}
