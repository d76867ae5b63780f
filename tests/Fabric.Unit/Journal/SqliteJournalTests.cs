using System.Diagnostics;
using System.IO.Compression;
using Dapper;
using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Microsoft.Data.Sqlite;
using Xunit;

namespace Fabric.Unit.Journal;

/// <summary>The contract on SQLite, and what is SQLite's own: locks, damage, full disks, shared syncs.</summary>
public sealed class SqliteJournalTests : JournalContract
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-journal-").FullName;

    private ManualTime Clock { get; } = new();

    private string File => Path.Combine(_folder, "journal.db");

    private SqliteJournalOptions Options => new() { Path = File, BusyTimeout = TimeSpan.FromSeconds(1) };

    protected override async Task<IJournal> OpenAsync() => await SqliteJournal.OpenAsync(Options, Clock, Chance(), None);

    protected override Task AdvanceAsync(TimeSpan by)
    {
        Clock.Advance(by);
        return Task.CompletedTask;
    }

    protected override Task RemoveAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return Task.CompletedTask;
    }

    private SqliteConnection OpenBeside()
    {
        var connection = new SqliteConnection($"Data Source={File};Pooling=False");
        connection.Open();
        return connection;
    }

    private static async Task<FabricError> ErrorOfAsync(Func<Task> call) => (await Assert.ThrowsAsync<FabricException>(call)).Error;

    [Fact]
    public async Task The_file_is_its_owners_only_and_is_written_ahead_and_synced()
    {
        await AcquireAsync();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, new FileInfo(File).UnixFileMode);
        using var beside = OpenBeside();
        Assert.Equal("wal", beside.ExecuteScalar<string>("PRAGMA journal_mode"));
    }

    [Fact]
    public async Task Requests_that_wait_together_share_a_commit_and_each_gets_its_own_outcome()
    {
        // A foreign transaction holds the writer up; everything queued meanwhile has to go into the next one or two commits.
        var lease = await AcquireAsync();
        var journal = (SqliteJournal)Store;
        await using var patient = await SqliteJournal.OpenAsync(Options with { BusyTimeout = TimeSpan.FromSeconds(30), Deadline = Minute }, Clock, Chance(), None);
        long before = patient.Commits;
        var appends = new List<Task<JournalRefusal>>();
        using (var beside = OpenBeside())
        using (var transaction = beside.BeginTransaction(deferred: false))
        {
            for (int i = 0; i < 40; i++)
            {
                var stream = new StreamId($"vm/{i / 2}");
                // Every second one goes to the stream of the one before it and believes it empty: a conflict inside the same group.
                appends.Add(patient.AppendAsync(lease, stream, 0, Events(1, 2), None));
            }

            transaction.Rollback();
        }

        var outcomes = await Task.WhenAll(appends).WaitAsync(Minute);
        Assert.Equal(Enumerable.Range(0, 40).Select(i => i % 2 == 0 ? JournalRefusal.None : JournalRefusal.SequenceConflict), outcomes);
        Assert.InRange(patient.Commits - before, 1, 3);
        for (int i = 0; i < 20; i++)
            Assert.Equal(2, (await journal.ReadAsync(new StreamId($"vm/{i}"), 0, 10, None)).Count);
    }

    [Fact]
    public async Task A_locked_file_is_store_failed_within_its_deadline_and_works_again_afterwards()
    {
        var lease = await AcquireAsync();
        using (var beside = OpenBeside())
        using (beside.BeginTransaction(deferred: false))
        {
            long begun = Stopwatch.GetTimestamp();
            var error = await ErrorOfAsync(() => Store.AppendAsync(lease, Stream, 0, Events(1, 1), None));
            Assert.Equal(ErrorCodes.StoreFailed, error.Code);
            Assert.Contains("write lock", error.Hint, StringComparison.Ordinal);
            Assert.True(Stopwatch.GetElapsedTime(begun) < TimeSpan.FromSeconds(10), $"It took {Stopwatch.GetElapsedTime(begun)}.");
        }

        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 0, Events(1, 1), None));
    }

    [Fact]
    public async Task A_call_gives_up_waiting_at_its_deadline_and_is_then_not_begun()
    {
        var lease = await AcquireAsync();
        await using var slow = await SqliteJournal.OpenAsync(Options with { BusyTimeout = TimeSpan.FromSeconds(30) }, Clock, Chance(), None);
        Task first;
        using (var beside = OpenBeside())
        using (var transaction = beside.BeginTransaction(deferred: false))
        {
            first = slow.AppendAsync(lease, Stream, 0, Events(1, 1), None);
            using var cancellation = new CancellationTokenSource();
            var cancelled = slow.AppendAsync(lease, new StreamId("vm/cancelled"), 0, Events(1, 1), cancellation.Token);
            await cancellation.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
            Clock.Advance(TimeSpan.FromSeconds(20));
            var error = await ErrorOfAsync(() => first);
            Assert.Equal(ErrorCodes.StoreFailed, error.Code);
            Assert.Contains("outcome is unknown", error.Message, StringComparison.Ordinal);
            transaction.Rollback();
        }

        // A later request is answered, so the two before it are over.
        Assert.Equal(JournalRefusal.None, await slow.AppendAsync(lease, new StreamId("vm/later"), 0, Events(1, 1), None));
    }

    [Fact]
    public async Task A_full_disk_is_store_failed_and_leaves_whole_events_only()
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 1), None);
        await using var full = await SqliteJournal.OpenAsync(
            Options with { Opened = c => c.Execute($"PRAGMA max_page_count = {c.ExecuteScalar<long>("PRAGMA page_count") + 4}") }, Clock, Chance(), None);
        var large = new NewEvent("large", 1, System.Text.Encoding.UTF8.GetBytes($"\"{new string('x', 9000)}\""));
        var error = await ErrorOfAsync(() => full.AppendAsync(lease, Stream, 1, [large, large, large], None));
        Assert.Equal(ErrorCodes.StoreFailed, error.Code);
        Assert.Contains("full", error.Hint, StringComparison.Ordinal);
        Assert.Single(await Store.ReadAsync(Stream, 0, 10, None));
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 1, Events(2, 1), None));
    }

    [Theory]
    [InlineData("UPDATE event SET payload = CAST('{\"number\":' AS BLOB) WHERE sequence = 2", "event 2 has a payload that is not whole JSON")]
    [InlineData("UPDATE event SET kind = '' WHERE sequence = 2", "event 2 has no proper kind")]
    [InlineData("UPDATE event SET version = -1 WHERE sequence = 2", "event 2 has version -1")]
    [InlineData("DELETE FROM event WHERE sequence = 2", "event 2 is missing")]
    [InlineData("DELETE FROM event WHERE sequence = 1", "event 1 is missing")]
    [InlineData("DELETE FROM event WHERE sequence = 3", "event 3 is missing")]
    [InlineData("DELETE FROM event", "event 1 is missing")]
    public async Task A_damaged_stream_is_refused_by_name_and_the_others_are_read(string damage, string told)
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 3), None);
        long left;
        using (var beside = OpenBeside())
        {
            beside.Execute(damage);
            left = beside.ExecuteScalar<long>("SELECT count(*) FROM event");
        }

        await Store.AppendAsync(lease, new StreamId("vm/whole"), 0, Events(1, 3), None);
        var error = await ErrorOfAsync(() => Store.ReadAsync(Stream, 0, 10, None));
        Assert.Equal(ErrorCodes.Corrupt, error.Code);
        Assert.Contains($"'{Stream}'", error.Message, StringComparison.Ordinal);
        Assert.Contains(told, error.Message, StringComparison.Ordinal);
        Assert.Equal(3, (await Store.ReadAsync(new StreamId("vm/whole"), 0, 10, None)).Count);
        using var after = OpenBeside();
        Assert.Equal(left + 3, after.ExecuteScalar<long>("SELECT count(*) FROM event"));
    }

    [Fact]
    public async Task A_damaged_file_is_store_failed_and_left_as_it_is()
    {
        await Store.DisposeAsync();
        byte[] garbage = new byte[8192];
        Chance().NextBytes(garbage);
        string file = Path.Combine(_folder, "garbage.db");
        await System.IO.File.WriteAllBytesAsync(file, garbage);
        var error = await ErrorOfAsync(() => SqliteJournal.OpenAsync(Options with { Path = file }, Clock, Chance(), None));
        Assert.Equal(ErrorCodes.StoreFailed, error.Code);
        Assert.Equal(garbage, await System.IO.File.ReadAllBytesAsync(file));
    }

    [Fact]
    public async Task A_file_of_another_schema_is_refused()
    {
        await Store.DisposeAsync();
        using (var beside = OpenBeside())
            beside.Execute("UPDATE schema_version SET version = 3");
        Assert.Equal(ErrorCodes.Incompatible, (await ErrorOfAsync(() => SqliteJournal.OpenAsync(Options, Clock, Chance(), None))).Code);
    }

    /// <summary>The file was written by version 1 of the program: its clock went back an hour before the last event of migration/1.</summary>
    [Fact]
    public async Task A_file_of_version_1_is_brought_up_to_date_with_all_that_is_in_it()
    {
        await Store.DisposeAsync();
        string file = Path.Combine(_folder, "old.db");
        await using (var packed = typeof(SqliteJournalTests).Assembly.GetManifestResourceStream("journal-of-version-1.db.gz")!)
        await using (var unpacked = new GZipStream(packed, CompressionMode.Decompress))
        await using (var target = System.IO.File.Create(file))
            await unpacked.CopyToAsync(target);
        Guid cluster = Guid.Empty;
        for (int opening = 0; opening < 2; opening++)
        {
            await using var journal = await SqliteJournal.OpenAsync(Options with { Path = file }, Clock, Chance(), None);
            var records = await journal.ReadShardAsync(Shard, 0, 100, None);
            Assert.Equal([1L, 2, 3, 4, 5, 6], records.Select(r => r.Position));
            Assert.Equal([1L, 2, 3, 4], records.Where(r => r.Stream == Stream).Select(r => r.Sequence));
            Assert.Equal([1L, 2], records.Where(r => r.Stream.Value == "vm/web").Select(r => r.Sequence));
            Assert.Equal(["""{"number":1}""", """{"number":2}"""], records.Take(2).Select(r => System.Text.Encoding.UTF8.GetString(r.Payload)));
            Assert.All(records, r => Assert.Equal((new Epoch(2), "counted", "alpha"), (r.Epoch, r.Kind, r.Holder)));
            Assert.Single(await journal.ReadShardAsync(new ShardId(4), 0, 100, None));
            Assert.Equal(3, (await journal.LoadSnapshotAsync(Stream, None))!.Value.Sequence);
            var view = await journal.ReadViewAsync(None);
            Assert.Equal(opening == 0 ? view.Cluster : cluster, view.Cluster);
            cluster = view.Cluster;
        }

        await using var next = await SqliteJournal.OpenAsync(Options with { Path = file }, Clock, Chance(), None);
        var (lease, _) = await next.AcquireAsync(Shard, "alpha", Minute, Epoch.None, None);
        Assert.Equal(new Epoch(3), lease!.Epoch);
        Assert.Equal(JournalRefusal.None, await next.AppendAsync(lease, Stream, 4, Events(7, 1), Guid.NewGuid(), None));
        Assert.Equal(7, (await next.ReadShardAsync(Shard, 6, 10, None)).Single().Position);
    }

    [Fact]
    public async Task A_missing_folder_and_a_closed_journal_are_store_failed()
    {
        var nowhere = Options with { Path = "/nonexistent-folder/journal.db" };
        Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => SqliteJournal.OpenAsync(nowhere, Clock, Chance(), None))).Code);
        await Store.DisposeAsync();
        Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => Store.ReadAsync(Stream, 0, 1, None))).Code);
    }

    [Fact]
    public async Task A_full_queue_refuses_without_doing_anything()
    {
        var lease = await AcquireAsync();
        await using var narrow = await SqliteJournal.OpenAsync(
            Options with { BusyTimeout = TimeSpan.FromSeconds(30), QueueCapacity = 1, GroupLimit = 1 }, Clock, Chance(), None);
        var calls = new List<Task<JournalRefusal>>();
        using (var beside = OpenBeside())
        using (var transaction = beside.BeginTransaction(deferred: false))
        {
            for (int i = 0; i < 5; i++)
                calls.Add(narrow.AppendAsync(lease, new StreamId($"vm/{i}"), 0, Events(1, 1), None));
            transaction.Rollback();
        }

        Assert.InRange(await RefusedWithoutEffectAsync(calls), 3, 4);
    }
}
