using System.Globalization;
using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Chaos.Pull;

/// <summary>What hits a migration whose VM already runs at the destination.</summary>
public enum Blow
{
    LinkCut,
    SourceKilled,
    DestinationKilled,
}

/// <summary>
/// Blows at random moments of the pull phase, with real processes and a real guest that is moved to and fro. How it proves its claim: a blow counts only if the migration says before and
/// after it that it pulls and that pages are missing (while a killed source is away: when it is back the rest may take less than a second); the guest writes every page of its memory in order, so that it must wait for each missing one, and its own rule about their values breaks
/// when a page is lost, stale or torn; a watch sees a guest that writes at one host after it ran at the other. Every migration must end completed, with one machine left.
/// </summary>
public sealed class PullTests(ChaosCluster cluster, ITestOutputHelper output) : IClassFixture<ChaosCluster>
{
    private static readonly TimeSpan StepWithin = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan EndWithin = TimeSpan.FromSeconds(90);

    /// <summary>The guest has 32 MiB: a pull of some eight seconds, or of 0.15: what its faults ask for, and what is read ahead of them, does not wait for the cap.</summary>
    private const long Rate = 4 * ByteSize.Mebi;

    /// <summary>Milliseconds within which a blow falls, from the moment at which the migration is seen to pull: within the shortest pull, of which the looks take a part.</summary>
    private const int Moments = 80;

    /// <summary>More than these in one pull would only make it longer.</summary>
    private const int BlowsOfOneMove = 5;

    private readonly Random _random = new(Seed);

    private static TimeSpan Within => All ? TimeSpan.FromMinutes(40) : TimeSpan.FromSeconds(200);

    private static bool All => Environment.GetEnvironmentVariable("FABRIC_CHAOS") == "all";

    private static int Blows => All ? 50 : 3;

    private static int Seed => int.TryParse(Environment.GetEnvironmentVariable("FABRIC_SEED"), NumberStyles.None, CultureInfo.InvariantCulture, out int seed) ? seed : 20091;

    [SkippableTheory]
    [InlineData(Blow.LinkCut)]
    [InlineData(Blow.SourceKilled)]
    [InlineData(Blow.DestinationKilled)]
    public async Task A_pull_survives_blows_at_random(Blow blow)
    {
        string? why = blow == Blow.LinkCut ? await DataLinks.WhyNotAsync() : null;
        Skip.IfNot(why is null, why);
        await cluster.RunAsync(Within, output.WriteLine, cancellation => RunAsync(blow, cancellation));
    }

    private async Task RunAsync(Blow blow, CancellationToken cancellation)
    {
        var vm = VmName.Parse(cluster.NextVm());
        var outside = new Outside(cluster.Local, vm);
        string source = Step.Source;
        string destination = Step.Destination;
        await ReadyAsync(cancellation);
        await cluster.CreateAsync(cluster.BootBlockVm(vm), cancellation);
        int moves = 0;
        for (int struck = 0; struck < Blows; moves++)
        {
            await outside.GrowsAsync(source, "the guest runs before it is moved", StepWithin, cancellation);
            await using (var watch = new RunWatch(outside.Written, source, destination))
            {
                struck += await MoveAsync(blow, Math.Min(BlowsOfOneMove, Blows - struck), vm, source, destination, cancellation);
                await SettledAsync(outside, destination, cancellation);
                Assert.Null(watch.Violation);
            }

            Assert.True(moves <= Blows + 3, $"{struck} blows in {moves} migrations: pulls end before they can be struck, and the test proves nothing.");
            (source, destination) = (destination, source);
        }

        output.WriteLine($"{blow}: {Blows} blows in {moves} migrations, all completed (seed {Seed})");
        await cluster.DeleteAsync(vm, force: false, cancellation);
    }

    /// <summary>One post-copy, struck until it ends or <paramref name="most"/> is reached; returns how many blows counted.</summary>
    private async Task<int> MoveAsync(Blow blow, int most, VmName vm, string source, string destination, CancellationToken cancellation)
    {
        var options = new MigrationOptions(MigrationMode.PostCopy, BandwidthBytesPerSecond: Rate);
        var id = await cluster.MigrateAsync(new MigrateRequest(vm, HostName.Parse(destination), options, Guid.NewGuid()), StepWithin, cancellation);
        int counted = 0;
        while (counted < most && await PullsAsync(id, cancellation))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(_random.Next(Moments)), TimeProvider.System, cancellation); // a moment by chance is what is tried here
            if (await PullsAsync(id, cancellation) && await StrikeAsync(blow, id, source, destination, cancellation))
                counted++;
        }

        await Patience.UntilAsync("the migration has completed", EndWithin, async () =>
        {
            var now = await ShowAsync(id, cancellation);
            return now.State == "completed" ? null : $"It is '{now.State}': {now.Error}";
        }, cancellation);
        if (blow == Blow.LinkCut) // an agent that is killed forgets what it had counted
            Counted((await ShowAsync(id, cancellation)).Memory);
        return counted;
    }

    /// <summary>All streams of the pull together carried each page of the guest's range, and twice only what was under way when one was cut.</summary>
    private static void Counted(MemoryReport memory)
    {
        const long range = (Outside.RangeEnd - BootBlock.RangeStart) / BootBlock.PageSize;
        Assert.InRange(memory.PagesSent + memory.PagesZero, range, 2 * range);
    }

    /// <summary>Waits while the switch-over is still to come; false once the pull is over.</summary>
    private async Task<bool> PullsAsync(MigrationId id, CancellationToken cancellation)
    {
        MigrationReport? now = null;
        await Patience.UntilAsync("the VM runs at the destination", StepWithin, async () =>
        {
            now = await ShowAsync(id, cancellation);
            return now.State is "planned" or "prepared" or "pushing" or "stopping" or "token-sent" ? $"It is '{now.State}'." : null;
        }, cancellation);
        return now is { State: "pulling", Progress.BytesLeft: > 0 };
    }

    private Task<MigrationReport> ShowAsync(MigrationId id, CancellationToken cancellation) => cluster.AskAsync((client, late) => client.MigrationAsync(id.ToString(), late), cancellation);

    /// <summary>True if the migration still pulled afterwards.</summary>
    private async Task<bool> StrikeAsync(Blow blow, MigrationId id, string source, string destination, CancellationToken cancellation)
    {
        if (blow == Blow.LinkCut)
        {
            var hosts = await cluster.AskAsync(static (client, late) => client.HostsAsync(late), cancellation);
            return hosts.Single(h => h.Name.Value == destination).Data is { } data && await DataLinks.CutAsync(data.Port) > 0 && await PullsAsync(id, cancellation);
        }

        string member = blow == Blow.SourceKilled ? source : destination;
        await cluster.Local.KillAsync(member, cancellation);
        // A destination that has every page says so at once, and needs no source for it: who pulls after this while lacks pages.
        await Task.Delay(TimeSpan.FromMilliseconds(_random.Next(300, 1000)), TimeProvider.System, cancellation);
        bool lacks = await PullsAsync(id, cancellation);
        await cluster.Local.StartAsync(member, cancellation);
        return blow == Blow.SourceKilled ? lacks : await PullsAsync(id, cancellation);
    }

    private Task ReadyAsync(CancellationToken cancellation) => Patience.UntilAsync("hosts are ready", StepWithin, () => cluster.UnsettledAsync(cancellation), cancellation);

    private async Task SettledAsync(Outside outside, string home, CancellationToken cancellation)
    {
        await ReadyAsync(cancellation);
        await Patience.UntilAsync("one machine is left", StepWithin, () => Task.FromResult(
            outside.Machines().Select(static m => m.Host).SequenceEqual([home]) ? null : $"QEMU at {string.Join(", ", outside.Machines().Select(static m => m.Host))}, expected at {home}."), cancellation);
        await outside.GrowsAsync(home, "the guest runs after the move", StepWithin, cancellation);
        Assert.Null(await Outside.OracleAsync(outside.Machines().Single(), cancellation));
    }
}
