using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Journal.Postgres;
using Fabric.Unit.Journal;
using Npgsql;
using Xunit;

namespace Fabric.Integration.Postgres;

/// <summary>The contract on a real PostgreSQL, and what is PostgreSQL's own: restarts, locks of others, refusals that name the remedy and no password.</summary>
[Collection(PostgresCollection.Name)]
public sealed class PostgresJournalTests(PostgresFixture fixture) : JournalContract
{
    private TestDatabase? _database;

    private TestDatabase Database => _database!;

    protected override async Task<IJournal> OpenAsync()
    {
        _database ??= await TestDatabase.CreateAsync(fixture.Require());
        return await OpenAsync(Database.Options);
    }

    protected override Task AdvanceAsync(TimeSpan by) => Database.AdvanceAsync(by);

    protected override async Task RemoveAsync()
    {
        if (_database is not null)
            await _database.DisposeAsync();
    }

    private Task<PostgresJournal> OpenAsync(PostgresJournalOptions options) => PostgresJournal.OpenAsync(options, TimeProvider.System, Chance(), None);

    private static async Task<FabricError> ErrorOfAsync(Func<Task> call) => (await Assert.ThrowsAsync<FabricException>(call)).Error;

    [SkippableFact]
    public async Task Nodes_that_start_at_once_make_the_tables_once()
    {
        await using var fresh = await TestDatabase.CreateAsync(fixture.Require());
        var journals = await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => Task.Run(() => OpenAsync(fresh.Options))));
        var views = await Task.WhenAll(journals.Select(j => j.ReadViewAsync(None)));
        Assert.Single(views.Select(v => v.Cluster).Distinct());
        foreach (var journal in journals)
            await journal.DisposeAsync();
        await fresh.ExecuteAsync("UPDATE fabric.schema_version SET version = 99");
        Assert.Equal(ErrorCodes.Incompatible, (await ErrorOfAsync(() => OpenAsync(fresh.Options))).Code);
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_restart_of_the_server_costs_calls_and_leases_and_no_event(bool crash)
    {
        var lease = await AcquireAsync();
        var before = await Membership.ReadViewAsync(None);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 0, Events(1, 3), None));
        await fixture.Require().StopAsync(crash);
        try
        {
            Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => Store.AppendAsync(lease, Stream, 3, Events(4, 1), None))).Code);
            Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => Store.ReadAsync(Stream, 0, 10, None))).Code);
            var refused = await ErrorOfAsync(() => Store.RenewAsync(lease, Minute, None));
            refused = await ErrorOfAsync(() => Store.RenewAsync(lease, Minute, None));
            Assert.Contains($"127.0.0.1:{fixture.Require().Port}, database 'fabric_", refused.Message, StringComparison.Ordinal);
            Assert.Contains("Check that PostgreSQL runs", refused.Hint, StringComparison.Ordinal);
        }
        finally
        {
            await fixture.Require().ResumeAsync();
        }

        Assert.Equal(3, (await Store.ReadAsync(Stream, 0, 10, None)).Count);
        var after = await Membership.ReadViewAsync(None);
        Assert.NotEqual(before.Cluster, after.Cluster);
        Assert.Equal(before.Version + 1, after.Version); // once, however many connections there are
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(lease, Stream, 3, Events(4, 1), None));
        Assert.Equal(JournalRefusal.Fenced, (await Store.RenewAsync(lease, Minute, None)).Refusal);
        var (next, _) = await Store.AcquireAsync(lease.Shard, "somebody else", Minute, Epoch.None, None);
        Assert.True(next!.Epoch > lease.Epoch);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(next, Stream, 3, Events(4, 1), None));
    }

    /// <summary>The files go back to a moment before the last commits, as a restored copy or a replica that was behind would: what was lost is given out again, under another term and cluster id.</summary>
    [SkippableFact]
    public async Task A_server_whose_files_are_an_older_copy_is_another_cluster()
    {
        await using var server = await TemporaryPostgres.StartAsync();
        fixture.Require();
        await using var journal = await OpenAsync(new PostgresJournalOptions { ConnectionString = await server.TakeDatabaseAsync() });
        var (lease, _) = await journal.AcquireAsync(new ShardId(3), "a", Minute, Epoch.None, None);
        Assert.Equal(JournalRefusal.None, await journal.AppendAsync(lease!, Stream, 0, Events(1, 2), None));
        await server.KeepCopyAsync();
        (lease, _) = await journal.AcquireAsync(new ShardId(3), "a", Minute, Epoch.None, None);
        Assert.Equal(JournalRefusal.None, await journal.AppendAsync(lease!, Stream, 2, Events(3, 2), None));
        var before = await journal.ReadViewAsync(None);

        await server.StopAsync(crash: true);
        await server.PutCopyBackAsync();
        await server.ResumeAsync();
        Assert.Equal(JournalRefusal.Fenced, (await UnbrokenAsync(() => journal.RenewAsync(lease!, Minute, None))).Refusal);
        Assert.NotEqual(before.Cluster, (await UnbrokenAsync(() => journal.ReadViewAsync(None))).Cluster);
        Assert.Equal(2, (await journal.ReadAsync(Stream, 0, 10, None)).Count);
        Assert.Equal(JournalRefusal.Fenced, await UnbrokenAsync(() => journal.AppendAsync(lease!, Stream, 2, Events(3, 2), None)));
        var (next, _) = await journal.AcquireAsync(new ShardId(3), "b", Minute, Epoch.None, None);
        Assert.Equal((lease!.Epoch, false), (next!.Epoch, next.Term == lease.Term)); // the epoch alone would not tell them apart
        var (above, _) = await journal.AcquireAsync(new ShardId(3), "b", Minute, lease.Epoch, None);
        Assert.True(above!.Epoch > lease.Epoch);
    }

    /// <summary>The first call on a connection that broke while it was idle is told so; the second connects again.</summary>
    private static async Task<T> UnbrokenAsync<T>(Func<Task<T>> call)
    {
        try
        {
            return await call();
        }
        catch (FabricException)
        {
            return await call();
        }
    }

    [SkippableFact]
    public async Task Appends_that_wait_together_share_a_commit_and_each_gets_its_own_outcome()
    {
        // A foreign lock holds the first group up; everything queued meanwhile has to go into the next one or two.
        var lease = await AcquireAsync();
        var other = await AcquireAsync(shard: new ShardId(4));
        var journal = (PostgresJournal)Store;
        long before = journal.Commits;
        var appends = new List<Task<JournalRefusal>>();
        await using (var beside = new NpgsqlConnection(Database.Options.ConnectionString))
        {
            await beside.OpenAsync();
            await using var transaction = await beside.BeginTransactionAsync();
            await using var take = new NpgsqlCommand("SELECT FROM fabric.shard FOR UPDATE", beside);
            await take.ExecuteNonQueryAsync();
            for (int i = 0; i < 40; i++)
            {
                // Every second one goes to the stream of the one before it and believes it empty: a conflict inside the same group.
                appends.Add(journal.AppendAsync(i % 4 < 2 ? lease : other, new StreamId($"vm/{i / 2}"), 0, Events(1, 2), null, None));
            }

            // Reads do not wait for writes.
            Assert.Empty(await journal.ReadAsync(new StreamId("vm/0"), 0, 10, None));
            await transaction.RollbackAsync();
        }

        var outcomes = await Task.WhenAll(appends).WaitAsync(Minute);
        Assert.Equal(Enumerable.Range(0, 40).Select(i => i % 2 == 0 ? JournalRefusal.None : JournalRefusal.SequenceConflict), outcomes);
        Assert.InRange(journal.Commits - before, 1, 3);
        for (int i = 0; i < 20; i++)
            Assert.Equal(2, (await journal.ReadAsync(new StreamId($"vm/{i}"), 0, 10, None)).Count);
    }

    /// <summary>A node is frozen in the middle of its append, the row locked: the server ends its transaction, another node goes on, and the frozen one's commit fails.</summary>
    [SkippableFact]
    public async Task A_node_that_freezes_with_the_row_locked_keeps_nobody_for_long()
    {
        var lease = await AcquireAsync();
        var options = Database.Options;
        await using var frozen = new NpgsqlConnection(options.Parse().ConnectionString);
        await frozen.OpenAsync();
        await using var begin = new NpgsqlCommand("BEGIN; SELECT FROM fabric.shard WHERE id = 3 FOR UPDATE", frozen);
        await begin.ExecuteNonQueryAsync();
        long begun = Stopwatch.GetTimestamp();
        var held = await ErrorOfAsync(() => Store.AppendAsync(lease, Stream, 0, Events(1, 1), None));
        Assert.Equal(ErrorCodes.StoreFailed, held.Code);
        Assert.Contains("Another transaction holds the row", held.Hint, StringComparison.Ordinal);
        while (true)
        {
            Assert.True(Stopwatch.GetElapsedTime(begun) < TimeSpan.FromSeconds(20), "The row is still locked.");
            try
            {
                Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 0, Events(1, 1), None));
                break;
            }
            catch (FabricException again) when (again.Error.Code == ErrorCodes.StoreFailed)
            {
                // Its lock ends soon.
            }
        }

        await using var commit = new NpgsqlCommand("COMMIT", frozen);
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => commit.ExecuteNonQueryAsync());
    }

    [SkippableFact]
    public async Task A_full_queue_refuses_without_doing_anything()
    {
        var lease = await AcquireAsync();
        await using var narrow = await OpenAsync(Database.Options with { QueueCapacity = 1, GroupLimit = 1 });
        var calls = Enumerable.Range(0, 20).Select(i => narrow.AppendAsync(lease, new StreamId($"vm/{i}"), 0, Events(1, 1), null, None)).ToList();
        Assert.InRange(await RefusedWithoutEffectAsync(calls), 1, 19);
    }

    [SkippableTheory]
    [InlineData("Password=wrong", "28P01", "Check the user and the password")]
    [InlineData("Database=nowhere", "3D000", "createdb -h 127.0.0.1")]
    [InlineData("Port=1", "127.0.0.1:1", "Check that PostgreSQL runs")]
    [InlineData("Host=no-such-host.invalid", "no-such-host.invalid:", "Check that PostgreSQL runs")]
    public async Task A_wrong_server_is_told_with_its_name_and_the_remedy_and_without_the_password(string wrong, string told, string remedy)
    {
        const string secret = "s3cret-of-the-test";
        var options = Database.Options;
        bool own = wrong.StartsWith("Database", StringComparison.Ordinal);
        options = options with { ConnectionString = own ? $"{options.ConnectionString};{wrong}" : $"{options.ConnectionString};Password={secret};{wrong}" };
        string password = new NpgsqlConnectionStringBuilder(options.ConnectionString).Password!;
        var failure = await Assert.ThrowsAsync<FabricException>(() => OpenAsync(options));
        Assert.Equal(ErrorCodes.StoreFailed, failure.Error.Code);
        Assert.Contains(told, failure.Error.Message, StringComparison.Ordinal);
        Assert.Contains(remedy, failure.Error.Hint, StringComparison.Ordinal);
        Assert.Contains("database '", failure.Error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(password, failure.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain(password, options.ToString(), StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData("Host=a;Database=b;Username=c;Port=s3cret")]
    [InlineData("Host=a;Database=b;Username=c;Password=x;s3cret=y")]
    [InlineData("Host=a;Password=s3cret")]
    public async Task A_connection_string_that_cannot_be_read_is_not_quoted(string text)
    {
        var failure = await Assert.ThrowsAsync<FabricException>(() => OpenAsync(Database.Options with { ConnectionString = text }));
        Assert.Equal(ErrorCodes.InvalidArgument, failure.Error.Code);
        Assert.DoesNotContain("s3cret", failure.ToString(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task A_port_where_something_else_listens_is_store_failed()
    {
        fixture.Require();
        using var other = new TcpListener(IPAddress.Loopback, 0);
        other.Start();
        var accepting = Task.Run(async () =>
        {
            using var client = await other.AcceptTcpClientAsync();
            await client.GetStream().WriteAsync("HTTP/1.1 400 Bad Request\r\n\r\n"u8.ToArray());
        });
        string wrong = $"{Database.Options.ConnectionString};Port={((IPEndPoint)other.LocalEndpoint).Port};SSL Mode=Disable";
        Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => OpenAsync(Database.Options with { ConnectionString = wrong }))).Code);
        await accepting;
    }

    [SkippableTheory]
    [InlineData("UPDATE fabric.event SET payload = '{\"number\":' WHERE sequence = 2", "event 2 has a payload that is not whole JSON")]
    [InlineData("DELETE FROM fabric.event WHERE sequence = 2", "event 2 is missing")]
    [InlineData("DELETE FROM fabric.event WHERE sequence = 3", "event 3 is missing")]
    public async Task A_damaged_stream_is_refused_by_name_and_the_others_are_read(string damage, string told)
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 3), None);
        await Database.ExecuteAsync(damage);
        await Store.AppendAsync(lease, new StreamId("vm/whole"), 0, Events(1, 3), None);
        var error = await ErrorOfAsync(() => Store.ReadAsync(Stream, 0, 10, None));
        Assert.Equal(ErrorCodes.Corrupt, error.Code);
        Assert.Contains(told, error.Message, StringComparison.Ordinal);
        Assert.Equal(ErrorCodes.Corrupt, (await ErrorOfAsync(() => Store.ReadShardAsync(Shard, 0, 10, None))).Code);
        Assert.Equal(3, (await Store.ReadAsync(new StreamId("vm/whole"), 0, 10, None)).Count);
    }

    [SkippableFact]
    public async Task A_closed_journal_is_store_failed_and_commits_are_never_asynchronous()
    {
        await using (var journal = await OpenAsync(Database.Options with { ConnectionString = Database.Options.ConnectionString + ";Options=-c synchronous_commit=off" }))
        {
            var (lease, _) = await journal.AcquireAsync(Shard, "alpha", Minute, Epoch.None, None);
            Assert.Equal(JournalRefusal.None, await journal.AppendAsync(lease!, Stream, 0, Events(1, 1), null, None));
            Assert.Equal("on", await journal.SettingAsync("synchronous_commit"));
        }

        await Store.DisposeAsync();
        Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => Store.ReadAsync(Stream, 0, 1, None))).Code);
        var invented = new ShardLease(Shard, "alpha", new Epoch(1), Guid.NewGuid(), Minute);
        Assert.Equal(ErrorCodes.StoreFailed, (await ErrorOfAsync(() => Store.AppendAsync(invented, Stream, 0, Events(1, 1), None))).Code);
    }
}
