using System.Text;
using Fabric.Core;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Journal;

/// <summary>Positions of a shard, and requests that execute once.</summary>
public abstract partial class JournalContract
{
    [SkippableFact]
    public async Task A_shard_is_read_in_the_order_in_which_its_streams_were_written()
    {
        var lease = await AcquireAsync();
        var other = await AcquireAsync(shard: new ShardId(4));
        StreamId b = new("vm/b");
        await Store.AppendAsync(lease, Stream, 0, Events(1, 2), None);
        await Store.AppendAsync(other, new StreamId("vm/elsewhere"), 0, Events(1, 3), None);
        await Store.AppendAsync(lease, b, 0, Events(3, 1), None);
        Assert.Equal(JournalRefusal.SequenceConflict, await Store.AppendAsync(lease, b, 0, Events(9, 1), None));
        await Store.AppendAsync(lease, Stream, 2, Events(4, 1), None);
        var records = await Store.ReadShardAsync(Shard, 0, 100, None);
        Assert.Equal([(1L, Stream, 1L), (2, Stream, 2), (3, b, 1), (4, Stream, 3)], records.Select(r => (r.Position, r.Stream, r.Sequence)));
        Assert.Equal([3L, 4], (await Store.ReadShardAsync(Shard, 2, 10, None)).Select(r => r.Position));
        Assert.Equal([2L, 3], (await Store.ReadShardAsync(Shard, 1, 2, None)).Select(r => r.Position));
        Assert.Equal([1L, 2, 4], (await Store.ReadAsync(Stream, 0, 10, None)).Select(r => r.Position));
        Assert.Empty(await Store.ReadShardAsync(Shard, 4, 10, None));
        Assert.Empty(await Store.ReadShardAsync(new ShardId(99), 0, 10, None));
    }

    [SkippableFact]
    public async Task Every_shard_is_listed_with_its_holder_its_epoch_and_its_last_position()
    {
        Assert.Empty(await Store.ListShardsAsync(None));
        var other = await AcquireAsync(shard: new ShardId(4));
        var lease = await AcquireAsync();
        await Store.AppendAsync(lease, Stream, 0, Events(1, 2), None);
        await Store.AppendAsync(lease, new StreamId("vm/b"), 0, Events(1, 1), None);
        var listed = await Store.ListShardsAsync(None);
        Assert.Equal([new ShardStanding(Shard, lease.Holder, lease.Epoch, true, 3), new ShardStanding(new ShardId(4), other.Holder, other.Epoch, true, 0)], listed);

        await Store.ReleaseAsync(other, None);
        Assert.Equal(new ShardStanding(new ShardId(4), null, other.Epoch, false, 0), (await Store.ListShardsAsync(None))[1]);
    }

    /// <summary>A reader follows while eight streams of one shard are written at once: it sees every position once, in order, and all of them in the end.</summary>
    [SkippableFact]
    public async Task Positions_have_no_gap_under_parallel_appends_to_several_streams()
    {
        const int streams = 8, each = 15;
        var lease = await AcquireAsync();
        var writers = Enumerable.Range(0, streams).Select(i => Task.Run(async () =>
        {
            for (int sequence = 0; sequence < each; sequence++)
                Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, new StreamId($"vm/{i}"), sequence, [Event(sequence)], None));
        })).ToArray();
        var all = Task.WhenAll(writers);
        var followed = new List<JournalRecord>();
        while (followed.Count < streams * each)
        {
            bool over = all.IsCompleted;
            var next = await Store.ReadShardAsync(Shard, followed.Count, 7, None);
            Assert.False(over && next.Count == 0, $"Only {followed.Count} events are there.");
            followed.AddRange(next);
        }

        await all;
        Assert.Equal(Enumerable.Range(1, streams * each).Select(i => (long)i), followed.Select(r => r.Position));
        Assert.All(followed.GroupBy(r => r.Stream), g => Assert.Equal(Enumerable.Range(1, each).Select(i => (long)i), g.Select(r => r.Sequence)));
    }

    [SkippableFact]
    public async Task A_request_is_written_once_and_found_afterwards()
    {
        var lease = await AcquireAsync();
        var other = await AcquireAsync(shard: new ShardId(4));
        Guid request = Guid.NewGuid();
        Assert.Null(await Store.FindRequestAsync(request, None));
        await Store.AppendAsync(lease, Stream, 0, Events(1, 1), None);
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(lease, Stream, 1, Events(2, 2), request, None));
        Assert.Equal((Stream, 3L), await Store.FindRequestAsync(request, None));
        Assert.Equal(JournalRefusal.Repeated, await Store.AppendAsync(lease, Stream, 3, Events(4, 1), request, None));
        Assert.Equal(JournalRefusal.Repeated, await Store.AppendAsync(lease, Stream, 1, Events(4, 1), request, None));
        Assert.Equal(JournalRefusal.Repeated, await Store.AppendAsync(other, new StreamId("vm/x"), 0, Events(1, 1), request, None));
        Assert.Equal(3, (await Store.ReadAsync(Stream, 0, 10, None)).Count);
        Assert.Empty(await Store.ReadAsync(new StreamId("vm/x"), 0, 10, None));
        Guid refused = Guid.NewGuid();
        Assert.Equal(JournalRefusal.SequenceConflict, await Store.AppendAsync(lease, Stream, 0, Events(9, 1), refused, None));
        Assert.Null(await Store.FindRequestAsync(refused, None));
        var zeros = await Assert.ThrowsAsync<FabricException>(() => Store.AppendAsync(lease, Stream, 3, Events(4, 1), Guid.Empty, None));
        Assert.Equal(ErrorCodes.InvalidArgument, zeros.Error.Code);
    }

    /// <summary>The same request reaches many at once, in several shards, through two openings of the store: one of them writes.</summary>
    [SkippableFact]
    public async Task One_request_in_many_hands_is_executed_once()
    {
        await using var beside = await OpenAsync();
        var leases = new List<ShardLease>();
        for (int i = 0; i < 4; i++)
            leases.Add(await AcquireAsync(shard: new ShardId(10 + i)));
        for (int round = 0; round < 10; round++)
        {
            Guid request = Guid.NewGuid();
            var hands = Enumerable.Range(0, 8).Select(i => Task.Run(() =>
                (i % 2 == 0 ? Store : beside).AppendAsync(leases[i / 2], new StreamId($"request/{round}-{i}"), 0, Events(i, 1), request, None)));
            var outcomes = await Task.WhenAll(hands);
            Assert.Single(outcomes, JournalRefusal.None);
            Assert.Equal(7, outcomes.Count(o => o == JournalRefusal.Repeated));
            var at = await Store.FindRequestAsync(request, None);
            int winner = Array.IndexOf(outcomes, JournalRefusal.None);
            Assert.Equal((new StreamId($"request/{round}-{winner}"), 1L), at);
        }

        for (int i = 0; i < 4; i++)
        {
            var records = await Store.ReadShardAsync(new ShardId(10 + i), 0, 100, None);
            Assert.Equal(records.Select((_, n) => n + 1L), records.Select(r => r.Position));
        }
    }

    /// <summary>Two openings of the store, one lease: what two processes of one split brain would do. Sequences and positions stay whole.</summary>
    [SkippableFact]
    public async Task Two_openings_of_the_store_keep_one_order()
    {
        await using var beside = await OpenAsync();
        var lease = await AcquireAsync();
        var appenders = Enumerable.Range(0, 10).Select(i => Task.Run(async () =>
        {
            var own = i % 2 == 0 ? Store : beside;
            for (int attempt = 0; attempt < 1000; attempt++)
            {
                var seen = await own.ReadAsync(Stream, 0, 100, None);
                if (await own.AppendAsync(lease, Stream, seen.Count, [Event(i)], None) == JournalRefusal.None)
                    return;
            }

            Assert.Fail($"Appender {i} found no place in 1000 attempts.");
        }));
        await Task.WhenAll(appenders).WaitAsync(Minute);
        var records = await Store.ReadAsync(Stream, 0, 100, None);
        Assert.Equal(10, records.Select(r => Encoding.UTF8.GetString(r.Payload)).Distinct().Count());
        Assert.Equal(records.Select(r => r.Sequence), (await beside.ReadShardAsync(Shard, 0, 100, None)).Select(r => r.Position));
    }
}
