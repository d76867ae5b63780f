using System.Text;
using Fabric.Core;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Journal;

/// <summary>What every store must do. One subclass per store; the store's clock stands still until <see cref="AdvanceAsync"/> moves it.</summary>
public abstract partial class JournalContract : IAsyncLifetime
{
    protected static readonly ShardId Shard = new(3);
    protected static readonly StreamId Stream = new("migration/1");
    protected static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);
    protected static readonly CancellationToken None = CancellationToken.None;

    private IJournal? _journal;
    private int _seed;

    protected IJournal Store => _journal!;

    protected IMembership Membership => (IMembership)_journal!;

    /// <summary>Opens the store of this test: the same one each time it is called.</summary>
    protected abstract Task<IJournal> OpenAsync();

    protected abstract Task AdvanceAsync(TimeSpan by);

    protected abstract Task RemoveAsync();

    /// <summary>Each store that a test opens draws other terms.</summary>
    protected Random Chance() => new(Interlocked.Increment(ref _seed));

    public async Task InitializeAsync() => _journal = await OpenAsync();

    public async Task DisposeAsync()
    {
        if (_journal is not null)
            await _journal.DisposeAsync();
        await RemoveAsync();
    }

    protected async Task ReopenAsync()
    {
        await Store.DisposeAsync();
        _journal = await OpenAsync();
    }

    /// <summary>How many of the appends, the i-th of one event to the new stream <c>vm/i</c>, were refused for want of room; each refused one wrote nothing, each other its event.</summary>
    protected async Task<int> RefusedWithoutEffectAsync(IReadOnlyList<Task<JournalRefusal>> calls)
    {
        int refused = 0;
        for (int i = 0; i < calls.Count; i++)
        {
            int expected = 1;
            try
            {
                Assert.Equal(JournalRefusal.None, await calls[i]);
            }
            catch (FabricException full)
            {
                Assert.Equal(ErrorCodes.Exhausted, full.Error.Code);
                refused++;
                expected = 0;
            }

            Assert.Equal(expected, (await Store.ReadAsync(new StreamId($"vm/{i}"), 0, 10, None)).Count);
        }

        return refused;
    }

    protected static NewEvent Event(int number) => new("counted", 1, Encoding.UTF8.GetBytes($$"""{"number":{{number}}}"""));

    protected static NewEvent[] Events(int first, int count) => Enumerable.Range(first, count).Select(Event).ToArray();

    protected async Task<ShardLease> AcquireAsync(string holder = "alpha", ShardId? shard = null)
    {
        var (lease, refusal) = await Store.AcquireAsync(shard ?? Shard, holder, Minute, Epoch.None, None);
        Assert.Equal(JournalRefusal.None, refusal);
        return lease!;
    }

    [SkippableFact]
    public async Task What_was_appended_is_read_back_in_order()
    {
        var lease = await AcquireAsync();
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 0, Events(1, 3), None));
        await AdvanceAsync(Minute);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 3, Events(4, 2), None));
        var records = await Store.ReadAsync(Stream, 0, 100, None);
        Assert.Equal([1L, 2, 3, 4, 5], records.Select(r => r.Sequence));
        Assert.All(records, r => Assert.Equal(Encoding.UTF8.GetString(Event((int)r.Sequence).Payload), Encoding.UTF8.GetString(r.Payload)));
        Assert.All(records, r => Assert.Equal((Stream, lease.Epoch, "counted", 1, "alpha"), (r.Stream, r.Epoch, r.Kind, r.Version, r.Holder)));
        Assert.Equal(Minute, records[3].AppendedAt - records[2].AppendedAt);
        Assert.Equal([3L, 4], (await Store.ReadAsync(Stream, 2, 2, None)).Select(r => r.Sequence));
        Assert.Empty(await Store.ReadAsync(Stream, 5, 10, None));
        Assert.Empty(await Store.ReadAsync(new StreamId("migration/none"), 0, 10, None));
    }

    [SkippableTheory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public async Task An_append_at_the_wrong_place_is_refused_and_writes_nothing(long believed)
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 2), None);
        Assert.Equal(JournalRefusal.SequenceConflict, await Store.AppendAsync(lease, Stream, believed, Events(9, 2), None));
        Assert.Equal(2, (await Store.ReadAsync(Stream, 0, 10, None)).Count);
    }

    [SkippableFact]
    public async Task Each_acquisition_raises_the_epoch_also_by_the_same_holder_and_renewing_does_not()
    {
        var first = await AcquireAsync();
        var renewed = await Store.RenewAsync(first, Minute, None);
        Assert.Equal((first.Epoch, JournalRefusal.None), (renewed.Lease!.Epoch, renewed.Refusal));
        var second = await AcquireAsync();
        Assert.Equal(first.Epoch.Next, second.Epoch);
        await Store.ReleaseAsync(second, None);
        var third = await AcquireAsync("beta");
        Assert.Equal(second.Epoch.Next, third.Epoch);
    }

    [SkippableFact]
    public async Task A_shard_held_by_another_is_refused_until_it_expires_by_the_stores_clock()
    {
        var alpha = await AcquireAsync();
        await AdvanceAsync(Minute - TimeSpan.FromMilliseconds(1));
        Assert.Equal((null, JournalRefusal.HeldByAnother), await Store.AcquireAsync(Shard, "beta", Minute, Epoch.None, None));
        await Store.RenewAsync(alpha, Minute, None);
        await AdvanceAsync(Minute - TimeSpan.FromMilliseconds(1));
        Assert.Equal((null, JournalRefusal.HeldByAnother), await Store.AcquireAsync(Shard, "beta", Minute, Epoch.None, None));
        await AdvanceAsync(TimeSpan.FromMilliseconds(1));
        var beta = await AcquireAsync("beta");
        Assert.True(beta.Epoch > alpha.Epoch);
        Assert.Equal((null, JournalRefusal.Fenced), await Store.RenewAsync(alpha, Minute, None));
    }

    [SkippableFact]
    public async Task A_stale_owner_is_fenced_and_an_expired_one_that_nobody_replaced_is_not()
    {
        var old = await AcquireAsync();
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(old, Stream, 0, Events(1, 1), None));
        await AdvanceAsync(Minute * 2);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(old, Stream, 1, Events(2, 1), None));
        var next = await AcquireAsync("beta");
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(old, Stream, 2, Events(3, 1), None));
        var snapshot = await Assert.ThrowsAsync<FabricException>(() => Store.SaveSnapshotAsync(old, Stream, 2, [1], None));
        Assert.Equal(ErrorCodes.RefusedByEpoch, snapshot.Error.Code);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(next, Stream, 2, Events(3, 1), None));
        Assert.Equal([old.Epoch, old.Epoch, next.Epoch], (await Store.ReadAsync(Stream, 0, 10, None)).Select(r => r.Epoch));
    }

    [SkippableFact]
    public async Task The_same_holder_after_a_restart_fences_its_former_self()
    {
        var before = await AcquireAsync();
        await ReopenAsync();
        var after = await AcquireAsync();
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(before, Stream, 0, Events(1, 1), None));
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(after, Stream, 0, Events(1, 1), None));
    }

    [SkippableFact]
    public async Task A_released_shard_is_free_at_once_and_a_stale_release_changes_nothing()
    {
        var alpha = await AcquireAsync();
        await Store.ReleaseAsync(alpha, None);
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(alpha, Stream, 0, Events(1, 1), None));
        var beta = await AcquireAsync("beta");
        await Store.ReleaseAsync(alpha, None);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(beta, Stream, 0, Events(1, 1), None));
    }

    [SkippableFact]
    public async Task A_lease_that_was_never_given_is_fenced()
    {
        var invented = new ShardLease(new ShardId(99), "alpha", new Epoch(1), Guid.NewGuid(), Minute);
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(invented, Stream, 0, Events(1, 1), None));
        var lease = await AcquireAsync();
        var impostor = lease with { Holder = "beta" };
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(impostor, Stream, 0, Events(1, 1), None));
    }

    /// <summary>Each appender reads where the stream is and tries until its one event is in; every conflict is a retry, no event is lost or doubled.</summary>
    [SkippableFact]
    public async Task Twenty_parallel_appenders_end_with_exactly_twenty_events()
    {
        var lease = await AcquireAsync();
        using var start = new SemaphoreSlim(0);
        var appenders = Enumerable.Range(0, 20).Select(i => Task.Run(async () =>
        {
            await start.WaitAsync();
            for (int attempt = 0; attempt < 1000; attempt++)
            {
                var seen = await Store.ReadAsync(Stream, 0, 100, None);
                if (await Store.AppendAsync(lease, Stream, seen.Count, [Event(i)], None) == JournalRefusal.None)
                    return;
            }

            Assert.Fail($"Appender {i} found no place in 1000 attempts.");
        })).ToArray();
        start.Release(20);
        await Task.WhenAll(appenders).WaitAsync(Minute);
        var records = await Store.ReadAsync(Stream, 0, 100, None);
        Assert.Equal(Enumerable.Range(1, 20).Select(i => (long)i), records.Select(r => r.Sequence));
        Assert.Equal(20, records.Select(r => Encoding.UTF8.GetString(r.Payload)).Distinct().Count());
    }

    [SkippableFact]
    public async Task Two_who_steal_at_once_get_different_epochs_and_only_the_last_may_append()
    {
        await AcquireAsync();
        await AdvanceAsync(Minute);
        var thieves = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(() => Store.AcquireAsync(Shard, $"thief-{i}", Minute, Epoch.None, None))));
        var winner = Assert.Single(thieves, t => t.Lease is not null);
        Assert.All(thieves.Except([winner]), t => Assert.Equal(JournalRefusal.HeldByAnother, t.Refusal));
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(winner.Lease!, Stream, 0, Events(1, 1), None));
    }

    [SkippableFact]
    public async Task Streams_are_listed_by_shard_and_prefix_in_order_of_creation()
    {
        var lease = await AcquireAsync();
        var other = await AcquireAsync(shard: new ShardId(4));
        foreach (string name in new[] { "migration/b", "vm/x", "migration/a", "migration/%", "migratio" })
            await Store.AppendAsync(lease, new StreamId(name), 0, Events(1, 1), None);
        await Store.AppendAsync(other, new StreamId("migration/elsewhere"), 0, Events(1, 1), None);
        async Task<string[]> ListAsync(string prefix, string? after, int most) =>
            (await Store.ListStreamsAsync(Shard, prefix, after is null ? null : new StreamId(after), most, None)).Select(s => s.Value).ToArray();
        Assert.Equal(["migration/b", "migration/a", "migration/%"], await ListAsync("migration/", null, 10));
        Assert.Equal(["migration/b", "migration/a"], await ListAsync("migration/", null, 2));
        Assert.Equal(["migration/%"], await ListAsync("migration/", "migration/a", 10));
        Assert.Equal(["migration/%"], await ListAsync("migration/%", null, 10));
        Assert.Equal(5, (await ListAsync("", null, 10)).Length);
    }

    [SkippableFact]
    public async Task A_stream_stays_in_the_shard_that_made_it()
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 1), None);
        var other = await AcquireAsync(shard: new ShardId(4));
        var refused = await Assert.ThrowsAsync<FabricException>(() => Store.AppendAsync(other, Stream, 1, Events(2, 1), None));
        Assert.Equal(ErrorCodes.Conflict, refused.Error.Code);
    }

    [SkippableFact]
    public async Task The_newest_snapshot_is_kept()
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 5), None);
        Assert.Null(await Store.LoadSnapshotAsync(Stream, None));
        await Store.SaveSnapshotAsync(lease, Stream, 4, [4, 4], None);
        await Store.SaveSnapshotAsync(lease, Stream, 2, [2], None);
        var snapshot = await Store.LoadSnapshotAsync(Stream, None);
        Assert.Equal(4, snapshot!.Value.Sequence);
        Assert.Equal([4, 4], snapshot.Value.State);
        var beyond = await Assert.ThrowsAsync<FabricException>(() => Store.SaveSnapshotAsync(lease, Stream, 6, [6], None));
        Assert.Equal(ErrorCodes.InvalidArgument, beyond.Error.Code);
    }

    [SkippableFact]
    public async Task Everything_is_there_after_reopening()
    {
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 5), None);
        await Store.SaveSnapshotAsync(lease, Stream, 5, [5], None);
        await ReopenAsync();
        Assert.Equal(5, (await Store.ReadAsync(Stream, 0, 10, None)).Count);
        Assert.Equal(5, (await Store.LoadSnapshotAsync(Stream, None))!.Value.Sequence);
        Assert.Equal(JournalRefusal.HeldByAnother, (await Store.AcquireAsync(Shard, "beta", Minute, Epoch.None, None)).Refusal);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 5, Events(6, 1), None));
    }

    [SkippableFact]
    public async Task A_cancelled_call_does_nothing()
    {
        var lease = await AcquireAsync();
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Store.AppendAsync(lease, Stream, 0, Events(1, 1), cancelled.Token));
        Assert.Empty(await Store.ReadAsync(Stream, 0, 10, None));
    }

    [SkippableFact]
    public async Task Values_out_of_bounds_are_refused()
    {
        var lease = await AcquireAsync();
        var bad = new Func<Task>[]
        {
            () => Store.AppendAsync(lease, new StreamId(""), 0, Events(1, 1), None),
            () => Store.AppendAsync(lease, new StreamId(new string('x', 201)), 0, Events(1, 1), None),
            () => Store.AppendAsync(lease, Stream, 0, [], None),
            () => Store.AppendAsync(lease, Stream, 0, [new NewEvent("torn", 1, "{\"a\":"u8.ToArray())], None),
            () => Store.AppendAsync(lease, Stream, 0, [new NewEvent("", 1, "{}"u8.ToArray())], None),
            () => Store.AppendAsync(lease, Stream, 0, [new NewEvent("zero", 0, "{}"u8.ToArray())], None),
            () => Store.AppendAsync(lease, Stream, 0, [new NewEvent("large", 1, new byte[JournalRules.PayloadBytes + 1])], None),
            () => Store.ReadAsync(Stream, 0, 0, None),
            () => Store.ReadAsync(Stream, 0, int.MaxValue, None),
            () => Store.AcquireAsync(Shard, "", Minute, Epoch.None, None),
            () => Store.AcquireAsync(Shard, "alpha", TimeSpan.Zero, Epoch.None, None),
        };
        foreach (var call in bad)
            Assert.Equal(ErrorCodes.InvalidArgument, (await Assert.ThrowsAsync<FabricException>(call)).Error.Code);
        Assert.Empty(await Store.ReadAsync(Stream, 0, 10, None));
    }
}
