using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Migration;
using Xunit;
using Xunit.Abstractions;

namespace Fabric.Chaos;

/// <summary>
/// kill -9 of each party at each record of a migration (docs/PROTOCOL.md §2), with real processes and real guests. How it proves its claim: the
/// daemon that writes the record is held at exactly that point until the victim is gone. Who runs the VM is asked of the kernel, not of an agent:
/// QEMU's processes, their memory files, and the letters that the guest itself writes on each host. All through a row a watch would see a guest that
/// writes at one host after it ran at another; in the end one machine must be left where the migration's end says, running, its memory obeying
/// the guest's own rule, both agents agreeing on the owner.
/// </summary>
public sealed class KillTests(ChaosCluster cluster, ITestOutputHelper output) : IClassFixture<ChaosCluster>
{
    private static readonly TimeSpan RowWithin = TimeSpan.FromSeconds(200);

    /// <summary>FABRIC_CHAOS=all takes the whole grid, which takes half an hour.</summary>
    private static IReadOnlyList<ChaosRow> Selected =>
        Environment.GetEnvironmentVariable("FABRIC_CHAOS") == "all" ? ChaosTable.All() : ChaosTable.Chosen();

    // Short values: the runner cuts long ones, and rows are chosen by their names.
    public static TheoryData<string, Victim, MigrationMode> Rows()
    {
        var rows = new TheoryData<string, Victim, MigrationMode>();
        foreach (var row in Selected)
            rows.Add(row.At.ToString(), row.Victim, row.Mode);
        return rows;
    }

    [SkippableTheory]
    [MemberData(nameof(Rows))]
    public async Task A_killed_process_leaves_one_runner_and_an_end(string at, Victim victim, MigrationMode mode)
    {
        Skip.IfNot(ChaosCluster.Unavailable is null, ChaosCluster.Unavailable);
        using var deadline = new CancellationTokenSource(RowWithin, TimeProvider.System);
        try
        {
            await ChaosRun.RunAsync(cluster, ChaosTable.All().Single(r => r.At.ToString() == at && r.Victim == victim && r.Mode == mode), output.WriteLine, deadline.Token);
        }
        catch
        {
            await cluster.DownAsync();
            throw;
        }
    }
}
