using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>A machine that loads its device state touches the guest's memory before the token is passed; whoever does not answer it is seen by a test that does not end.</summary>
public sealed class PullLoadingTests
{
    private const int Second = 1000;

    [Fact(Timeout = 60 * Second)]
    public async Task Loading_the_device_state_may_wait_for_pages_before_the_token_is_passed()
    {
        await using TransferPair pair = new(2000);
        for (long page = 0; page < 2000; page++)
            pair.Source.GuestWrite(page, 3);
        pair.WhileLoading = () => Task.Factory.StartNew(
            () =>
            {
                foreach (long page in (long[])[1999, 0, 1000, 7])
                    Assert.Equal(pair.Source.Peek(page), pair.Destination.GuestRead(page));
            },
            TaskCreationOptions.LongRunning);
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.False(pair.Accepted.IsCompleted);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        // Nothing but the loading read anything. A fault is counted after its reader goes on: sure only now.
        MigrationStats loading = pair.Incoming.Snapshot();
        Assert.True(loading.NetworkFaults >= 3, $"{loading.NetworkFaults} network faults");
        Assert.NotNull(loading.FaultMedianUs);
        Assert.Empty(pair.Differences());
    }

    /// <summary>
    /// The guest stands while its state is saved, which takes milliseconds, and while stale pages are discarded, which does too: at the same time. What saving wrote is found afterwards and discarded
    /// as well.
    /// </summary>
    [Fact(Timeout = 60 * Second)]
    public async Task What_is_stale_is_discarded_while_the_state_is_being_saved()
    {
        await using TransferPair pair = new(700);
        for (long page = 0; page < 700; page++)
            pair.Source.GuestWrite(page, 3);
        var discarded = new TaskCompletionSource<PageRun>(TaskCreationOptions.RunContinuationsAsynchronously);
        var runs = new List<PageRun>();
        pair.Destination.WhenDiscarded = run =>
        {
            runs.Add(run);
            discarded.TrySetResult(run);
        };
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        pair.Source.GuestWrite(500, 4);
        pair.Source.GuestWrite(501, 4);
        var state = new TaskCompletionSource<byte[]>();
        Task finished = pair.Outgoing.FinishStoppedAsync(HandOverKind.Pull, state.Task, default);
        Assert.Equal(new PageRun(500, 2), await discarded.Task);
        pair.Source.GuestWrite(699, 5);
        pair.Source.GuestWrite(501, 5); // missing already
        state.SetResult(pair.State);
        await finished;
        Assert.Equal([new PageRun(500, 2), new PageRun(699, 1)], runs);
        Assert.Equal(3, pair.Pull.MissingCount);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
    }

    /// <summary>All that exists is there, so no page is missing and none will come; what does not exist reads as zeros all the same.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task Loading_may_touch_holes_where_no_page_is_missing()
    {
        await using TransferPair pair = new(100);
        pair.Source.GuestWrite(3, 1);
        pair.WhileLoading = () => Task.Factory.StartNew(() => Assert.Equal(pair.Source.Peek(50), pair.Destination.GuestRead(50)), TaskCreationOptions.LongRunning);
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        await pair.FinishAsync(HandOverKind.Pull);
        Assert.Equal(0, pair.Pull.MissingCount);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
    }
}
