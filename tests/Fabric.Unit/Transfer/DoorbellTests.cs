using Fabric.Transfer.Channels;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>What the threads of a transfer wait for: no ring may be lost, and nobody may be kept waiting by a transfer that is over.</summary>
public sealed class DoorbellTests
{
    private const int Deadline = 60_000;

    [Fact(Timeout = Deadline)]
    public Task A_ring_before_the_wait_is_heard_once() => Task.Run(() =>
    {
        using Doorbell bell = new();
        bell.Ring();
        bell.Ring();
        bell.Wait(CancellationToken.None);
        // Were the second ring kept, this wait would not end by the cancellation.
        using CancellationTokenSource ended = new(50);
        Assert.Throws<OperationCanceledException>(() => bell.Wait(ended.Token));
    });

    [Fact(Timeout = Deadline)]
    public async Task The_end_wakes_who_waits_also_when_it_was_rung()
    {
        using Doorbell bell = new();
        using CancellationTokenSource ended = new();
        Task waiting = Task.Factory.StartNew(() => bell.Wait(ended.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        await ended.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        bell.Ring();
        Assert.ThrowsAny<OperationCanceledException>(() => bell.Wait(ended.Token));
    }

    [Fact]
    public void A_ring_after_the_end_is_nothing()
    {
        Doorbell bell = new();
        bell.Dispose();
        bell.Ring();
    }
}
