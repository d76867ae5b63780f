using Fabric.Core;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>When pushed pages are mapped, and that it is over when the device state is loaded: a touch in a range that is being mapped would wait for nobody.</summary>
public sealed class AheadMapTests
{
    private const int Second = 1000;

    [Fact(Timeout = 60 * Second)]
    public async Task Mapping_is_called_off_and_waited_for_before_the_state_is_loaded()
    {
        await using TransferPair pair = new(2000);
        for (long page = 0; page < 2000; page++)
            pair.Source.GuestWrite(page, 1);
        using ManualResetEventSlim begun = new();
        bool over = false;
        long pages = 0;
        pair.Destination.WhenMapped = (wanted, off) =>
        {
            Interlocked.Add(ref pages, wanted.CountSet());
            begun.Set();
            // As of a large guest: still at it when the source finishes.
            if (!off.WaitHandle.WaitOne(20 * Second))
                return;
            Volatile.Write(ref over, true);
        };
        bool loadedAfter = false;
        pair.WhileLoading = () =>
        {
            loadedAfter = Volatile.Read(ref over);
            return Task.CompletedTask;
        };
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        Assert.True(begun.Wait(20 * Second));
        Assert.Equal(2000, pages);
        await pair.FinishAsync(HandOverKind.Complete);
        Assert.True(loadedAfter);
    }

    /// <summary>What the guest waits for while it stands must not wait for the mapping of what it may use later.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task Mapping_is_called_off_when_the_guest_is_about_to_stand()
    {
        await using TransferPair pair = new(2000);
        for (long page = 0; page < 2000; page++)
            pair.Source.GuestWrite(page, 1);
        TaskCompletionSource begun = new();
        TaskCompletionSource<bool> over = new();
        pair.Destination.WhenMapped = (_, off) =>
        {
            begun.TrySetResult();
            over.TrySetResult(off.WaitHandle.WaitOne(20 * Second));
        };
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        await begun.Task;
        await pair.Outgoing.PrepareFinishAsync(HandOverKind.Complete, default);
        Assert.True(await over.Task);
        await pair.FinishAsync(HandOverKind.Complete);
        Assert.Empty(pair.Differences());
    }

    /// <summary>Pages that came are mapped once, and few of them not at all: the registration would cost more than their faults. A look may fall into the middle of a round.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task What_was_mapped_is_not_mapped_again_and_little_is_left_alone()
    {
        await using TransferPair pair = new(4000);
        for (long page = 0; page < 1000; page++)
            pair.Source.GuestWrite(page, 1);
        PageBitmap all = new(4000);
        List<long> calls = [];
        using SemaphoreSlim called = new(0);
        pair.Destination.WhenMapped = (wanted, _) =>
        {
            long before = all.CountSet();
            all.Or(wanted);
            Assert.Equal(before + wanted.CountSet(), all.CountSet());
            calls.Add(wanted.CountSet());
            called.Release();
        };
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        Assert.True(await called.WaitAsync(20 * Second));
        for (long page = 990; page < 1050; page++)
            pair.Source.GuestWrite(page, 2);
        await pair.Outgoing.PushRoundAsync(default);
        for (long page = 2000; page < 2600; page++)
            pair.Source.GuestWrite(page, 3);
        await pair.Outgoing.PushRoundAsync(default);
        Assert.True(await called.WaitAsync(20 * Second));
        await pair.FinishAsync(HandOverKind.Complete);
        await pair.DisconnectAsync();
        Assert.Equal(1000, calls[0]);
        Assert.All(calls, pages => Assert.InRange(pages, 256, 1000));
    }
}
