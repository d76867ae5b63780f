using System.Text;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

/// <summary>
/// I11: the journal alone gives the same answers, byte for byte. One node lives through everything that is written to a journal, then the file is copied, and nodes that know
/// nothing else, with no agent that answers, are asked the same: one that takes the shards, one that only reads them; and one that read along from the beginning.
/// </summary>
public sealed class ReplayTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-replay-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_journal_alone_gives_the_same_answers_byte_for_byte()
    {
        var lived = await LiveAsync();
        await using var journal = await OpenAsync("copy.db");
        await using (var owner = Silent(journal))
        {
            await owner.StartAsync(default);
            Assert.Null(Answers.Difference(lived, await AskAsync(owner)));
        }

        await using var reader = Silent(journal);
        await reader.RefreshAsync(default);
        Assert.Null(Answers.Difference(lived, await AskAsync(reader)));
    }

    /// <summary>The comparison sees a few bytes of one kind of event: a number, a reason, a place, an end.</summary>
    [Theory]
    [InlineData("source-released", "12.5", "12.6")]
    [InlineData("batch-item-failed", "cordoned", "gordoned")]
    [InlineData("vm-create-intended", "\"alpha\"", "\"gamma\"")]
    [InlineData("migration-settled", "\"lost\":true", "\"lost\":false")]
    public async Task A_journal_that_differs_in_a_few_bytes_gives_another_answer(string kind, string text, string instead)
    {
        var lived = await LiveAsync();
        await using var journal = new Changed(await OpenAsync("copy.db"), kind, text, instead);
        await using var reader = Silent(journal);
        await reader.RefreshAsync(default);
        Assert.True(journal.Changes > 0, $"no event '{kind}' has {text}");
        Assert.NotNull(Answers.Difference(States(lived), States(await AskAsync(reader))));
    }

    /// <summary>Without the records themselves, which of course read differently.</summary>
    private static SortedDictionary<string, byte[]> States(SortedDictionary<string, byte[]> said) => new(
        said.Where(static answer => !answer.Key.StartsWith("events", StringComparison.Ordinal)).ToDictionary(StringComparer.Ordinal), StringComparer.Ordinal);

    /// <summary>Lives through it and leaves a copy of the journal behind.</summary>
    private async Task<SortedDictionary<string, byte[]>> LiveAsync()
    {
        SortedDictionary<string, byte[]> lived;
        await using (var journal = await OpenAsync("journal.db"))
        await using (var along = Silent(journal))
        {
            await using var bench = await ControlBench.StartAsync(journal);
            foreach (var part in new Func<ControlBench, Task>[] { MoveAsync, BreakOffAsync, MakeAndDeleteAsync, EvacuateAsync, LoseAsync, LeaveOpenAsync })
            {
                await part(bench);
                await along.RefreshAsync(default);
            }

            RequireAll(await bench.Control.ListMigrationsAsync(default));
            lived = await Answers.OfAsync(bench.Control);
            Assert.Null(Answers.Difference(lived, await AskAsync(along)));
        }

        File.Copy(Path.Combine(_directory, "journal.db"), Path.Combine(_directory, "copy.db"));
        return lived;
    }

    private static void RequireAll(IReadOnlyList<MigrationReport> migrations) => Assert.Equal(
        ["aborted", "completed", "failed", "lost", "needs-fencing"], migrations.Select(static m => m.State).Distinct().Order(StringComparer.Ordinal));

    private static async Task MoveAsync(ControlBench bench)
    {
        await bench.CreateAsync("kept", Alpha);
        foreach (var (to, mode) in new[] { (Beta, MigrationMode.PreCopy), (Gamma, MigrationMode.PostCopy), (Alpha, MigrationMode.Auto), (Beta, MigrationMode.Hybrid) })
            Assert.Equal("completed", (await bench.EndOfAsync((await bench.MigrateAsync("kept", to, mode, Guid.NewGuid())).Id)).State);
    }

    private static async Task BreakOffAsync(ControlBench bench)
    {
        await bench.CreateAsync("stays", Alpha);
        bench.Gateway.Allow = static step => step != "converge";
        var aborted = await PushingAsync(bench, "stays", Beta);
        await bench.Control.AbortMigrationAsync(aborted.ToString(), "changed my mind", default);
        Assert.Equal("aborted", (await bench.EndOfAsync(aborted)).State);
        var failed = await PushingAsync(bench, "stays", Beta);
        bench.Gateway.Silence(Beta, true);
        Assert.Equal("failed", (await bench.EndOfAsync(failed)).State);
        bench.Gateway.Silence(Beta, false);
        bench.Gateway.Allow = static _ => true;
        await bench.UntilAsync(async () => (await bench.Control.ListHostsAsync(default)).All(static h => h.State == "ready"), "beta is back");
    }

    private static async Task MakeAndDeleteAsync(ControlBench bench)
    {
        await bench.CreateAsync("gone", Beta);
        await bench.Control.DeleteVmAsync(VmName.Parse("gone"), false, default);
        await bench.CreateAsync("again", Beta);
        bench.Gateway.Silence(Beta, true);
        await bench.Control.DeleteVmAsync(VmName.Parse("again"), true, default);
        await bench.CreateAsync("again", Gamma);
        bench.Gateway.Silence(Beta, false);
        lock (bench.Cluster.Gate)
            bench.Cluster.Agents[Gamma].Vms[VmName.Parse("there")] = new ModelVm(Spec("there")); // so the agent refuses to make it
        await Assert.ThrowsAsync<FabricException>(() => bench.CreateAsync("there", Gamma));
        await bench.Control.SetCordonedAsync(Gamma, true, null, default);
        await bench.Control.SetCordonedAsync(Gamma, false, null, default);
        await bench.UntilAsync(async () => (await bench.Control.ListHostsAsync(default)).All(static h => h.State == "ready"), "beta is back");
    }

    /// <summary>One that ends well, one of which a VM stays and one fails: nobody takes it in time.</summary>
    private static async Task EvacuateAsync(ControlBench bench)
    {
        Assert.Equal("done", (await EvacuatedAsync(bench, Alpha)).State);
        await bench.Control.SetCordonedAsync(Alpha, false, null, default);
        await bench.CreateAsync("large", Beta, 5 * ByteSize.Gibi);
        await bench.CreateAsync("wide", Gamma, 4 * ByteSize.Gibi);
        await bench.CreateAsync("small", Beta);
        await bench.CreateAsync("other", Alpha, 4 * ByteSize.Gibi);
        bench.Gateway.Allow = static step => step != "converge";
        var begun = await bench.Control.EvacuateAsync(new EvacuateRequest(Beta, 1, false, MigrationOptions.Default with { Mode = MigrationMode.PreCopy }, Guid.NewGuid()), default);
        await bench.UntilAsync(async () => (await bench.Control.GetEvacuationAsync(begun.Id, default)).Items.Any(static i => i.State == "migrating"), "one moves");
        await bench.Control.SetCordonedAsync(Alpha, true, null, default); // what waits for its turn finds every place closed
        await bench.Control.SetCordonedAsync(Gamma, true, null, default);
        bench.Gateway.Allow = static _ => true;
        var report = await EndOfAsync(bench, begun.Id);
        Assert.Equal("partly-done", report.State);
        Assert.Equal(["failed", "moved", "stays"], report.Items.Select(static i => i.State).Distinct().Order(StringComparer.Ordinal));
        foreach (var host in new[] { Alpha, Beta, Gamma })
            await bench.Control.SetCordonedAsync(host, host == Gamma, null, default);
    }

    private static async Task LoseAsync(ControlBench bench)
    {
        await bench.CreateAsync("doomed", Alpha);
        bench.Gateway.Allow = static step => step != "pulled";
        var begun = await bench.MigrateAsync("doomed", Beta, MigrationMode.PostCopy);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pulling", "it pulls");
        lock (bench.Cluster.Gate)
        {
            var vm = bench.Cluster.Agents[Beta].Vms[VmName.Parse("doomed")];
            (vm.Destination, vm.Running, vm.Machine, vm.Owner) = (DestinationPhase.Lost, false, false, false);
            bench.Cluster.Agents[Beta].Touch();
        }

        Assert.Equal("lost", (await bench.EndOfAsync(begun.Id)).State);
    }

    private static async Task LeaveOpenAsync(ControlBench bench)
    {
        await bench.CreateAsync("open", Alpha);
        var begun = await bench.MigrateAsync("open", Beta, MigrationMode.PostCopy);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pulling", "it pulls");
        bench.Gateway.Silence(Beta, true);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "needs-fencing", "it needs fencing");
    }

    private static async Task<MigrationId> PushingAsync(ControlBench bench, string vm, HostName to)
    {
        var begun = await bench.MigrateAsync(vm, to);
        await bench.UntilAsync(async () => (await bench.Control.GetMigrationAsync(begun.Id.ToString(), default)).State == "pushing", "it pushes");
        return begun.Id;
    }

    private static async Task<EvacuationReport> EvacuatedAsync(ControlBench bench, HostName host) => await EndOfAsync(
        bench, (await bench.Control.EvacuateAsync(new EvacuateRequest(host, null, false, MigrationOptions.Default with { Mode = MigrationMode.PreCopy }, null), default)).Id);

    private static async Task<EvacuationReport> EndOfAsync(ControlBench bench, string id)
    {
        EvacuationReport? report = null;
        await bench.UntilAsync(async () => (report = await bench.Control.GetEvacuationAsync(id, default)).State != "running", $"evacuation {id} ends");
        return report!;
    }

    private async Task<SqliteJournal> OpenAsync(string file) =>
        await SqliteJournal.OpenAsync(new SqliteJournalOptions { Path = Path.Combine(_directory, file) }, TimeProvider.System, new Random(1), default);

    /// <summary>A control node that no agent answers; hosts are known by their registrations.</summary>
    private static ControlPlane Silent(IJournal journal) =>
        new(journal, new NoAgents(), new HostRegistry(TimeProvider.System), "another", TimeProvider.System, new Random(2), NullLoggerFactory.Instance, new() { Shards = 2 });

    private static async Task<SortedDictionary<string, byte[]>> AskAsync(ControlPlane plane)
    {
        await plane.RefreshAsync(default);
        foreach (string name in new[] { "alpha", "beta", "gamma" })
            await plane.RegisterHostAsync(Registration(new ModelAgent(HostName.Parse(name))), default);
        return await Answers.OfAsync(plane);
    }

    private sealed class NoAgents : IAgentGateway
    {
        public Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation) => throw Gone(host);

        public Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation) => throw Gone(host);

        public Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation) => throw Gone(host);

        private static FabricException Gone(HostName host) => new(ErrorCodes.Unreachable, $"There is no agent of '{host}'.");
    }

    /// <summary>A journal in which the events of one kind read differently.</summary>
    private sealed class Changed(SqliteJournal inner, string kind, string text, string instead) : ForwardingJournal
    {
        public int Changes { get; private set; }

        protected override IJournal Inner => inner;

        public override async Task<IReadOnlyList<JournalRecord>> ReadShardAsync(ShardId shard, long afterPosition, int most, CancellationToken cancellation) =>
            [.. (await inner.ReadShardAsync(shard, afterPosition, most, cancellation)).Select(Change)];

        public override ValueTask DisposeAsync() => inner.DisposeAsync();

        private JournalRecord Change(JournalRecord record)
        {
            string payload = Encoding.UTF8.GetString(record.Payload);
            if (record.Kind != kind || !payload.Contains(text, StringComparison.Ordinal))
                return record;
            Changes++;
            return record with { Payload = Encoding.UTF8.GetBytes(payload.Replace(text, instead, StringComparison.Ordinal)) };
        }
    }
}
