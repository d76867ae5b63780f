using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Xunit;

namespace Fabric.Chaos;

/// <summary>The table against the kinds that the product itself knows, and the observer against planted runs. No process is needed.</summary>
public sealed class TableTests
{
    [Fact]
    public void Every_event_of_the_journal_has_a_row() =>
        Assert.Equal(EventCodec.Catalog.Kinds.Order(), ChaosTable.Control.Keys.Concat(ChaosTable.NotWritten).Order());

    [Fact]
    public void Every_record_of_a_ledger_has_a_row() =>
        Assert.Equal(VmRecord.Kinds.Order(), ChaosTable.Source.Keys.Union(ChaosTable.Destination.Keys).Concat(ChaosTable.NotOfAMigration).Concat(ChaosTable.OfABalloon).Order());

    [Fact]
    public void Every_event_hits_every_party_that_is_there()
    {
        foreach (string kind in ChaosTable.Control.Where(e => e.Value != Way.DestinationSilent).Select(e => e.Key))
        {
            var victims = ChaosTable.Chosen().Concat(ChaosTable.OfOwners(Victim.Supervisor, all: false)).Where(r => r.At is { Daemon: Step.Control } && r.At.Kind == kind).Select(r => r.Victim).ToList();
            Assert.Empty(new[] { Victim.SourceAgent, Victim.DestinationAgent, Victim.Supervisor }.Except(victims));
            Assert.Equal(ChaosTable.All().Any(r => r.At is { Daemon: Step.Control } && r.At.Kind == kind && r.Victim == Victim.DestinationMachine), victims.Contains(Victim.DestinationMachine));
        }
    }

    [Fact]
    public async Task The_watch_sees_a_guest_that_runs_where_it_was_before()
    {
        long alpha = 0;
        long beta = 0;
        await using var watch = new RunWatch(host => Interlocked.Read(ref host == Step.Source ? ref alpha : ref beta), Step.Source, Step.Destination);
        await WriteAsync(() => Interlocked.Increment(ref alpha));
        await WriteAsync(() => Interlocked.Increment(ref beta));
        Assert.Null(watch.Violation);
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(10), TimeProvider.System);
        await Patience.UntilAsync("the watch sees it", TimeSpan.FromSeconds(5), () =>
        {
            Interlocked.Increment(ref alpha);
            return Task.FromResult(watch.Violation is null ? "It sees nothing." : null);
        }, deadline.Token);
    }

    /// <summary>Writes on and on for longer than the watch's interval.</summary>
    private static async Task WriteAsync(Action write)
    {
        for (int i = 0; i < 20; i++)
        {
            write();
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }
}
