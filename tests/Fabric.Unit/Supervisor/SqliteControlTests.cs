using Fabric.Core;
using Fabric.Journal.Sqlite;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

/// <summary>The control node over the real store: what a new process reads from the file is what the old one said.</summary>
public sealed class SqliteControlTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-control-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_migration_goes_on_in_the_next_life_and_an_evacuation_follows_over_sqlite()
    {
        await using var journal = await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = Path.Combine(_directory, "journal.db") }, TimeProvider.System, new Random(1), default);
        await using var bench = await ControlBench.StartAsync(journal);
        bench.Gateway.Allow = static step => step != "converge";
        await bench.CreateAsync("web", Alpha);
        await bench.CreateAsync("db", Alpha);
        var begun = await bench.MigrateAsync("web", Beta, MigrationMode.Hybrid);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pushing", "it pushes");
        await bench.RestartControlAsync();
        bench.Gateway.Allow = static _ => true;
        Assert.Equal("completed", (await bench.EndOfAsync(begun.Id)).State);
        var evacuation = await bench.Control.EvacuateAsync(new EvacuateRequest(Beta, null, false, MigrationOptions.Default, null), default);
        await bench.UntilAsync(async () => (await bench.Control.GetEvacuationAsync(evacuation.Id, default)).State == "done", "beta is empty");
        Assert.NotEqual(Beta, Assert.Single(bench.Cluster.RunningAt(VmName.Parse("web"))).Name);
        await bench.RestartControlAsync();
        Assert.Equal("done", (await bench.Control.GetEvacuationAsync(evacuation.Id, default)).State);
        Assert.True((await bench.Control.ListHostsAsync(default)).Single(static h => h.Name == Beta).Cordoned);
        Assert.Equal(2, (await bench.Control.ListMigrationsAsync(default)).Count);
    }
}
