using Fabric.Core;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Journal;

/// <summary>Who may append: epochs with a floor, terms, and holders that are members.</summary>
public abstract partial class JournalContract
{
    [SkippableFact]
    public async Task An_acquisition_goes_above_what_agents_have_seen_and_never_below_what_is_stored()
    {
        var (high, _) = await Store.AcquireAsync(Shard, "alpha", Minute, new Epoch(41), None);
        Assert.Equal(new Epoch(42), high!.Epoch);
        var (higher, _) = await Store.AcquireAsync(Shard, "alpha", Minute, new Epoch(7), None);
        Assert.Equal(new Epoch(43), higher!.Epoch);
        var absurd = await Assert.ThrowsAsync<FabricException>(() => Store.AcquireAsync(Shard, "alpha", Minute, new Epoch(long.MaxValue), None));
        Assert.Equal(ErrorCodes.InvalidArgument, absurd.Error.Code);
    }

    [SkippableFact]
    public async Task The_same_epoch_of_another_term_is_fenced_and_the_same_holder_with_an_old_epoch_too()
    {
        var old = await AcquireAsync();
        var now = await AcquireAsync();
        Assert.NotEqual(old.Term, now.Term);
        var restored = now with { Term = Guid.NewGuid() };
        foreach (var stale in new[] { old, restored, now with { Epoch = old.Epoch }, old with { Epoch = now.Epoch }, now with { Epoch = now.Epoch.Next } })
        {
            Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(stale, Stream, 0, Events(1, 1), None));
            Assert.Equal((null, JournalRefusal.Fenced), await Store.RenewAsync(stale, Minute, None));
            await Store.ReleaseAsync(stale, None);
        }

        Assert.Empty(await Store.ReadAsync(Stream, 0, 10, None));
        Assert.Equal(JournalRefusal.None, await Store.AppendAsync(now, Stream, 0, Events(1, 1), None));
        Assert.Equal(now.Term, (await Store.RenewAsync(now, Minute, None)).Lease!.Term);
    }

    /// <summary>A store in memory takes more events than one answer holds before another thread has had its turn.</summary>
    private async Task<List<JournalRecord>> ReadAllAsync(StreamId stream)
    {
        const int most = 1000;
        var records = new List<JournalRecord>();
        IReadOnlyList<JournalRecord> read;
        do
        {
            read = await Store.ReadAsync(stream, records.Count, most, None);
            records.AddRange(read);
        }
        while (read.Count == most);
        return records;
    }

    /// <summary>
    /// One owner appends as fast as it can while another takes the shard: wherever the acquisition falls between the appends, none of the old epoch comes after one
    /// of the new, and whatever was answered with "none" is there.
    /// </summary>
    [SkippableFact]
    public async Task A_stale_owner_writes_nothing_after_the_first_event_of_the_next()
    {
        for (int round = 0; round < 20; round++)
        {
            var shard = new ShardId(100 + round);
            var stream = new StreamId($"race/{round}");
            var old = await AcquireAsync("alpha", shard);
            await AdvanceAsync(Minute);
            using var begun = new SemaphoreSlim(0);
            var stale = Task.Run(async () =>
            {
                for (int written = 0; ; written++)
                {
                    if (written == round % 5)
                        begun.Release();
                    if (await Store.AppendAsync(old, stream, written, [Event(written)], None) != JournalRefusal.None)
                        return written;
                }
            });
            await begun.WaitAsync();
            var next = await AcquireAsync("beta", shard);
            int before = (await ReadAllAsync(stream)).Count;
            Assert.Equal(JournalRefusal.None, await Store.AppendAsync(next, stream, before, [Event(before)], None));
            int accepted = await stale.WaitAsync(Minute);
            var records = await ReadAllAsync(stream);
            Assert.Equal(accepted, records.Count - 1);
            Assert.Equal(Enumerable.Repeat(old.Epoch, accepted).Append(next.Epoch), records.Select(r => r.Epoch));
        }
    }

    [SkippableFact]
    public async Task A_lease_is_free_when_its_holder_is_dead_and_the_dead_acquire_nothing()
    {
        Guid alpha = Guid.NewGuid(), beta = Guid.NewGuid();
        await ChangeAsync(new MemberJoins(alpha, "alpha", "http://a", "http://a"), new MemberJoins(beta, "beta", "http://b", "http://b"));
        var old = await AcquireAsync(Member.HolderOf(alpha));
        Assert.Equal(JournalRefusal.HeldByAnother, (await Store.AcquireAsync(Shard, Member.HolderOf(beta), Minute, Epoch.None, None)).Refusal);
        await ChangeAsync(new MemberBecomes(alpha, MemberState.Dead));
        Assert.Equal((null, JournalRefusal.NoMember), await Store.AcquireAsync(Shard, Member.HolderOf(alpha), Minute, Epoch.None, None));
        Assert.Equal((null, JournalRefusal.NoMember), await Store.AcquireAsync(new ShardId(77), Member.HolderOf(alpha), Minute, Epoch.None, None));
        var next = await AcquireAsync(Member.HolderOf(beta));
        Assert.Equal(old.Epoch.Next, next.Epoch);
        Assert.Equal(JournalRefusal.Fenced, await Store.AppendAsync(old, Stream, 0, Events(1, 1), None));
    }
}
