using Fabric.Actors.Testing;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Cluster;

public sealed class ShardTenureTests
{
    private static readonly ShardLease Lease = new(new ShardId(3), "node", new Epoch(7), new Guid(1, 2, 3, new byte[8]), TimeSpan.FromSeconds(10));

    /// <summary>Supervisors that looked while it was not held have stopped for good: held again, the shard would stand until the node is restarted.</summary>
    [Fact]
    public void A_renewal_that_comes_after_the_lease_ran_out_ends_the_tenure()
    {
        var time = new ManualTime();
        using var tenure = new ShardTenure(Lease, time.GetTimestamp(), new StuckTimers(time));
        long askedAt = time.GetTimestamp();
        time.Advance(TimeSpan.FromSeconds(11)); // a process that was frozen: its timers have not fired yet
        Assert.False(tenure.Held);
        tenure.Renewed(Lease, askedAt + TimeSpan.FromSeconds(5).Ticks);
        Assert.False(tenure.Held);
        Assert.True(tenure.Ended.IsCancellationRequested);
    }

    [Fact]
    public void A_renewal_in_time_counts_from_when_it_was_asked_for()
    {
        var time = new ManualTime();
        using var tenure = new ShardTenure(Lease, time.GetTimestamp(), time);
        time.Advance(TimeSpan.FromSeconds(4));
        long askedAt = time.GetTimestamp();
        time.Advance(TimeSpan.FromSeconds(4));
        tenure.Renewed(Lease, askedAt);
        time.Advance(TimeSpan.FromSeconds(5));
        Assert.True(tenure.Held);
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.False(tenure.Held);
    }

    /// <summary>The clock goes on and no timer fires.</summary>
    private sealed class StuckTimers(ManualTime time) : TimeProvider
    {
        public override long TimestampFrequency => time.TimestampFrequency;

        public override long GetTimestamp() => time.GetTimestamp();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
            time.CreateTimer(callback, state, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }
}
