using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Migration;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Chaos;

/// <summary>
/// Three control nodes over a real PostgreSQL: the one that owns a migration is killed (-9), or frozen past its lease and continued, at each event that it writes. How it proves its
/// claim: the owner is held at exactly that event until it is dead or stands; who holds its shards then is read from the database's rows, not asked of a node; who runs the
/// VM is asked of the kernel and the guest, as in <see cref="KillTests"/>. The killed node stays away until the migration has ended and the VM's memory was checked.
/// </summary>
[Collection(TrioCollection.Name)]
public sealed class OwnerTests(TrioCluster cluster, ITestOutputHelper output)
{
    private static readonly TimeSpan RowWithin = TimeSpan.FromSeconds(200);

    /// <summary>FABRIC_CHAOS=all: both moments and modes of each event, and events that take a minute to come.</summary>
    private static bool All => Environment.GetEnvironmentVariable("FABRIC_CHAOS") == "all";

    public static TheoryData<string, MigrationMode> Killed() => Data(ChaosTable.OfOwners(Victim.Supervisor, All));

    /// <summary>A frozen row takes as long as a lease; a few of them say most.</summary>
    public static TheoryData<string, MigrationMode> Frozen() =>
        Data([.. ChaosTable.OfOwners(Victim.FrozenSupervisor, All).Where(static row => All || row.At.Kind is "push-started" or "hand-over-intended" or "handed-over")]);

    [SkippableTheory]
    [MemberData(nameof(Killed))]
    public Task A_killed_owner_is_replaced_and_the_migration_ends(string at, MigrationMode mode) => RunAsync(at, mode, Victim.Supervisor);

    [SkippableTheory]
    [MemberData(nameof(Frozen))]
    public Task A_frozen_owner_is_replaced_and_refused_when_it_wakes(string at, MigrationMode mode) => RunAsync(at, mode, Victim.FrozenSupervisor);

    private async Task RunAsync(string at, MigrationMode mode, Victim victim)
    {
        Skip.IfNot(TrioCluster.WhyNot is null, TrioCluster.WhyNot);
        using var deadline = new CancellationTokenSource(RowWithin, TimeProvider.System);
        try
        {
            await ChaosRun.RunAsync(cluster, ChaosTable.OfOwners(victim, all: true).Single(r => r.At.ToString() == at && r.Mode == mode), output.WriteLine, deadline.Token);
            var took = cluster.TakeOvers.Order().ToList();
            output.WriteLine($"taken over in {cluster.TakeOvers[^1].TotalSeconds:0.00} s; median of {took.Count}: {took[took.Count / 2].TotalSeconds:0.00} s, most {took[^1].TotalSeconds:0.00} s");
        }
        catch
        {
            await cluster.DownAsync();
            throw;
        }
    }

    private static TheoryData<string, MigrationMode> Data(IEnumerable<ChaosRow> rows)
    {
        var data = new TheoryData<string, MigrationMode>();
        foreach (var row in rows)
            data.Add(row.At.ToString(), row.Mode);
        return data;
    }
}
