using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;
using Fabric.Transfer.Incoming;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// Post-copy and hybrid over loopback sockets. A "guest" at the destination reads random pages while they are being pulled and compares each with what
/// the source's frozen memory holds: a page installed torn, stale or as zeros by accident is seen by it.
/// </summary>
public sealed class PullTests
{
    private const int Second = 1000;
    private const int ReadsOfCut = 10;

    [Theory(Timeout = 60 * Second)]
    [InlineData(1, false)]
    [InlineData(130, false)]
    [InlineData(9000, false)]
    [InlineData(9000, true)]
    public async Task A_pulled_guest_sees_the_sources_memory_from_the_first_read(long pages, bool hybrid)
    {
        await using TransferPair pair = new(pages);
        Fill(pair.Source, 1);
        await pair.ConnectAsync();
        if (hybrid)
        {
            await pair.Outgoing.PushRoundAsync(default);
            for (long page = 0; page < pages; page += 5)
                pair.Source.GuestWrite(page, 2);
            for (long page = 1; page < pages; page += 50)
                pair.Source.GuestGiveBack(page);
        }

        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
        using CancellationTokenSource stop = new();
        Task<long> reader = ReadAsync(pair, new Random(5), null, stop.Token);
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        await stop.CancelAsync();
        await reader;

        Assert.Empty(pair.Differences());
        MigrationStats stats = pair.Incoming.Snapshot();
        Assert.True(stats.Verified);
        Assert.True(pair.Outgoing.Snapshot().Verified);
        Assert.False(pair.Destination.IsTrapped);
        Assert.Equal(0, stats.RemainingBytes);
        // Each page crossed once: what was sent is what was missing (the destination refuses a page that comes twice).
        if (!hybrid)
            Assert.Equal(pair.Pull.MissingCount, stats.PagesSent + stats.PagesZero);
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_page_that_the_guest_gives_back_during_the_pull_reads_as_zeros_and_not_as_the_sources_old_content()
    {
        await using TransferPair pair = new(300);
        await StopAsync(pair);
        // Nothing is pushed before the token: only the read brings page 18. Page 17 is a hole at the source: zeros.
        Assert.Equal(pair.Source.Peek(18), await Task.Run(() => pair.Destination.GuestRead(18)));
        pair.Destination.GuestGiveBack(18);
        UInt128 again = await Task.Run(() => pair.Destination.GuestRead(18));
        Assert.Equal(pair.Source.Peek(17), again);
        Assert.True(pair.Incoming.Snapshot().MinorFaults >= 1);
    }

    /// <summary>
    /// The guest gives the page back and touches it again before the installer has noted that it arrived. The fault thread, which took that
    /// second fault while the page still counted as missing, cannot answer it; without the installer's second look the guest would wait for ever.
    /// Before the token, when nothing comes but what is asked for.
    /// </summary>
    [Fact(Timeout = 60 * Second)]
    public async Task A_page_given_back_and_touched_again_while_it_is_being_installed_does_not_leave_the_guest_waiting()
    {
        await using TransferPair pair = new(300);
        await StopAsync(pair);
        TaskCompletionSource<UInt128> again = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int installs = 0;
        pair.Destination.WhenInstalled = run =>
        {
            if (run.First != 18 || Interlocked.Increment(ref installs) != 1)
                return;
            pair.Destination.GuestGiveBack(18);
            using ManualResetEventSlim reported = new();
            _ = Task.Factory.StartNew(() => pair.Destination.GuestRead(18, reported.Set), TaskCreationOptions.LongRunning)
                .ContinueWith(again.SetFromTask, TaskScheduler.Default);
            reported.Wait();
            pair.Destination.AwaitFaultsTaken();
        };
        // What this first reader sees depends on whether it runs before or after the page was given back.
        await Task.Factory.StartNew(() => pair.Destination.GuestRead(18), TaskCreationOptions.LongRunning);
        Assert.Equal(pair.Source.Peek(17), await again.Task.WaitAsync(TimeSpan.FromSeconds(30)));
    }

    /// <summary>The wire is not idle while the source writes down that the guest runs elsewhere.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task Bulk_begins_with_the_word_that_the_guest_runs()
    {
        await using TransferPair pair = new(2000);
        await StopAsync(pair);
        await pair.TokenAsync();
        await pair.Running;
        Assert.Empty(pair.Differences());
        await pair.Outgoing.ServePullAsync(default);
        Assert.True(pair.Outgoing.Snapshot().Verified);
    }

    /// <summary>As after a push: few pages are missing, the guest wants them all at once, and the destination is done and gone before the source begins to serve.</summary>
    [Fact(Timeout = 60 * Second)]
    public async Task A_pull_that_is_complete_before_it_is_served_is_complete_for_both()
    {
        await using TransferPair pair = new(300, VerifyLevel.Frames);
        await StopAsync(pair);
        await pair.TokenAsync();
        await Task.Factory.StartNew(
            () =>
            {
                for (long page = 0; page < 300; page++)
                    Assert.Equal(pair.Source.Peek(page), pair.Destination.GuestRead(page));
            },
            TaskCreationOptions.LongRunning);
        await pair.Running;
        await pair.Incoming.DisposeAsync();
        await pair.Outgoing.ServePullAsync(default);
        Assert.True(pair.Outgoing.Snapshot().Verified);
        Assert.Empty(pair.Differences());
    }

    /// <summary>Cut at random moments, again and again; every time a new agent (or the same) resumes from the state. Nothing is lost, nothing differs.</summary>
    [Theory(Timeout = 120 * Second)]
    [InlineData(1, false)]
    [InlineData(2, true)]
    [InlineData(3, true)]
    public async Task A_pull_that_is_cut_again_and_again_is_resumed_until_everything_is_there(int seed, bool inFile)
    {
        const long Pages = 20_000;
        Random random = new(seed);
        string path = Path.Combine(Path.GetTempPath(), $"pull-{Guid.NewGuid():N}");
        try
        {
            PullState state = inFile ? PullState.CreateFile(path, TransferPair.Migration, Pages, digests: true) : PullState.InMemory(TransferPair.Migration, Pages, digests: true);
            await using TransferPair pair = new(Pages, pullState: state);
            Fill(pair.Source, 1);
            BandwidthCap cap = new(null, TimeProvider.System);
            await pair.ConnectAsync(resume: false, cap);
            await PushAndRewriteAsync(pair);
            using CancellationTokenSource stop = new();
            // Slow from the pull's first page on, so that the cuts fall into it also when this thread is kept waiting. What the guest reads is sent whatever the cap: little, between two cuts.
            using SemaphoreSlim reads = new(ReadsOfCut);
            Task<long> reader = ReadAsync(pair, random, reads, stop.Token);
            cap.Set(20 * ByteSize.Mebi);
            (int cuts, long faults) = (0, 0L);
            while (true)
            {
                Task serving = pair.Outgoing.ServePullAsync(default);
                if (cuts < 6)
                {
                    await SomeArriveAsync(pair, random.Next(1, 1500), serving);
                    faults = pair.Incoming.Snapshot().NetworkFaults ?? 0;
                    await pair.DisconnectAsync();
                    await EndsWithTheLinkAsync(serving);
                    cuts++;
                    if (inFile && cuts % 2 == 0)
                        pair.Pull = Restart(pair, path);
                    if (pair.Pull.IsComplete && pair.Incoming.Snapshot().Verified is not null)
                        break;
                    if (cuts == 6)
                        cap.Set(null);
                    reads.Release(cuts == 6 ? int.MaxValue / 2 : ReadsOfCut);
                    await pair.ConnectAsync(resume: true, cap);
                    continue;
                }

                await serving;
                break;
            }

            await pair.Running;
            await stop.CancelAsync();
            await reader;
            Assert.InRange(cuts, 3, 6);
            Assert.True(inFile || pair.Incoming.Snapshot().NetworkFaults >= faults, "A stream forgot the faults of the ones before it."); // a restarted agent does
            Assert.Empty(pair.Differences());
            Assert.True(pair.Incoming.Snapshot().Verified);
            pair.Pull.Delete();
            Assert.False(File.Exists(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>
    /// The last page is here and the host cannot write that down; then the source is gone for good. Nothing of the guest is missing, so nothing may keep it from being whole: the next
    /// transfer ends by itself, also where digests were to be compared, and the guest reads every page.
    /// </summary>
    [Theory(Timeout = 60 * Second)]
    [InlineData(VerifyLevel.Frames)]
    [InlineData(VerifyLevel.Full)]
    public async Task A_pull_that_has_every_page_ends_without_its_source(VerifyLevel verify)
    {
        TransferSettings settings = new() { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50, AnswerDeadline = TimeSpan.FromMilliseconds(500) };
        await using TransferPair pair = new(500, verify, settings: settings);
        Fill(pair.Source, 1);
        await pair.ConnectAsync();
        await PushAndRewriteAsync(pair);
        pair.WhenComplete = () => throw new FabricException(ErrorCodes.StoreFailed, "The ledger is full.");
        Task serving = pair.Outgoing.ServePullAsync(default);
        Assert.Equal(ErrorCodes.StoreFailed, (await Assert.ThrowsAsync<FabricException>(() => pair.Running)).Error.Code);
        await pair.DisconnectAsync();
        await Record.ExceptionAsync(() => serving);
        Assert.True(pair.Pull.IsComplete);

        int told = 0;
        pair.WhenComplete = () => Task.FromResult(told++);
        pair.Await();
        await pair.Running;
        Assert.Equal(1, told);
        Assert.Null(pair.Incoming.Snapshot().Verified); // nobody compared
        Assert.Null(pair.Pull.Trap);
        Assert.Empty(pair.Differences());
    }

    /// <summary>Until so many more pages have come, or the serving is over.</summary>
    private static async Task SomeArriveAsync(TransferPair pair, long pages, Task serving)
    {
        long until = pair.Pull.ArrivedCount + pages;
        while (pair.Pull.ArrivedCount < until && !serving.IsCompleted)
            await Task.Yield();
    }

    /// <summary>One round, and then the guest writes every page again before it is handed over: all of them are to be pulled.</summary>
    private static async Task PushAndRewriteAsync(TransferPair pair)
    {
        await pair.Outgoing.PushRoundAsync(default);
        for (long page = 0; page < pair.Source.PageCount; page++)
            pair.Source.GuestWrite(page, 2 + (ulong)(page % 3));
        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
    }

    [Fact(Timeout = 60 * Second)]
    public async Task A_silent_peer_is_unreachable_within_the_deadline()
    {
        TransferSettings settings = new() { SilenceDeadline = TimeSpan.FromSeconds(2), SliceMilliseconds = 20, PingInterval = TimeSpan.FromSeconds(60) };
        await using TransferPair pair = new(10, settings: settings);
        await pair.ConnectAsync();
        FabricException silent = await Assert.ThrowsAsync<FabricException>(() => pair.Running);
        Assert.Equal(ErrorCodes.Unreachable, silent.Error.Code);
    }

    [Fact]
    public void A_state_of_another_migration_or_a_damaged_one_is_refused()
    {
        string path = Path.Combine(Path.GetTempPath(), $"pull-{Guid.NewGuid():N}");
        try
        {
            Assert.Equal(ErrorCodes.NotFound, Code(() => PullState.OpenFile(path, TransferPair.Migration, 100)));
            using (PullState fresh = PullState.CreateFile(path, TransferPair.Migration, 100, digests: false))
            {
                Assert.Equal(ErrorCodes.Malformed, Code(() => PullState.OpenFile(path, TransferPair.Migration, 100)));
                fresh.Missing.AtomicSetBit(5);
                fresh.Missing.AtomicSetBit(6);
                fresh.Seal();
                fresh.MarkArrived(6);
            }

            using (PullState again = PullState.OpenFile(path, TransferPair.Migration, 100))
                Assert.Equal((2, 1, false), (again.MissingCount, again.ArrivedCount, again.IsComplete));
            Assert.Equal(ErrorCodes.Conflict, Code(() => PullState.OpenFile(path, TransferPair.Migration, 101)));
            Assert.Equal(ErrorCodes.Conflict, Code(() => PullState.OpenFile(path, new MigrationId(Guid.NewGuid()), 100)));
            File.WriteAllBytes(path, new byte[77]);
            Assert.Equal(ErrorCodes.Malformed, Code(() => PullState.OpenFile(path, TransferPair.Migration, 100)));
        }
        finally
        {
            File.Delete(path);
        }

        static string Code(Action action) => Assert.Throws<FabricException>(action).Error.Code;
    }

    [Fact]
    public void The_order_goes_on_behind_the_last_fault_and_a_page_is_claimed_once()
    {
        PageBitmap missing = new(100);
        missing.SetAll();
        PullSource source = new(missing, 100, new PullPlan(PageOrder.Forward).Begin(missing));
        long[] pages = new long[4];
        Assert.Equal(4, source.Claim(pages));
        Assert.Equal([0, 1, 2, 3], pages);
        long[] wanted = [60, 2, 50];
        Assert.Equal(2, source.ClaimWanted(wanted));
        Assert.Equal([50, 60], wanted[..2]);
        Assert.Equal(4, source.Claim(pages));
        Assert.Equal([51, 52, 53, 54], pages);
        int claimed = 10;
        int count;
        while ((count = source.Claim(pages)) > 0)
            claimed += count;
        Assert.Equal(100, claimed);
        Assert.Equal(0, source.Left);
    }

    [Fact]
    public void What_lies_around_wanted_pages_is_claimed_behind_them_once()
    {
        PageBitmap missing = new(21);
        missing.SetAll();
        PullSource source = new(missing, 21, new PullPlan(PageOrder.Forward).Begin(missing));
        long[] pages = new long[64];
        (pages[0], pages[1], pages[2]) = (20, 3, 1);
        int kept = source.ClaimWanted(pages.AsSpan(0, 3));
        Assert.Equal([1, 3, 20], pages[..kept]);
        int more = source.ClaimAround(pages, kept, shift: 3);
        Assert.Equal([0, 2, 4, 5, 6, 7, 16, 17, 18, 19], pages[kept..(kept + more)]);
        Assert.Equal(8, source.Left);
        Assert.Equal(0, source.ClaimAround(pages, kept, shift: 3));
        Assert.Equal(8, source.Claim(pages));
    }

    [Theory(Timeout = 60 * Second)]
    [InlineData(0)]
    [InlineData(600_000)]
    public async Task The_token_tells_since_when_the_vm_runs_and_never_earlier_than_it_was_sent(int claimedMilliseconds)
    {
        await using TransferPair pair = new(300) { RunsFor = TimeSpan.FromMilliseconds(claimedMilliseconds) };
        Fill(pair.Source, 3);
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Complete);
        long began = TimeProvider.System.GetTimestamp();
        long runs = await pair.TokenAsync();
        Assert.InRange(runs, began, TimeProvider.System.GetTimestamp());
    }

    /// <summary>The guest stands at its source: all of it is missing at the destination, and what comes before the token comes because it is wanted.</summary>
    private static async Task StopAsync(TransferPair pair)
    {
        Fill(pair.Source, 3);
        await pair.ConnectAsync();
        await pair.FinishAsync(HandOverKind.Pull);
    }

    private static async Task EndsWithTheLinkAsync(Task serving)
    {
        Exception? cut = await Record.ExceptionAsync(() => serving);
        Assert.True(cut is null or FabricException, cut?.ToString());
    }

    private static PullState Restart(TransferPair pair, string path)
    {
        pair.Pull.Dispose();
        pair.Destination.ForgetTrapOwner();
        return PullState.OpenFile(path, TransferPair.Migration, pair.Destination.PageCount);
    }

    private static void Fill(FakeGuest guest, ulong version)
    {
        for (long page = 0; page < guest.PageCount; page++)
        {
            if (page % 7 == 3)
                continue;
            guest.GuestWrite(page, version);
            if (page % 11 == 5)
                guest.GuestZero(page);
        }
    }

    // Throws when a page is not what the source has.
    private static Task<long> ReadAsync(TransferPair pair, Random random, SemaphoreSlim? permits, CancellationToken stop)
    {
        int seed = random.Next();
        return Task.Factory.StartNew(
            () =>
            {
                Random mine = new(seed);
                long reads = 0;
                while (!stop.IsCancellationRequested)
                {
                    if (permits?.Wait(TimeSpan.FromMilliseconds(20), CancellationToken.None) == false)
                        continue;
                    long page = mine.NextInt64(pair.Source.PageCount);
                    if (pair.Destination.GuestRead(page) != pair.Source.Peek(page))
                        throw new InvalidOperationException($"The guest read page {page} and saw something else than the source's.");
                    reads++;
                }

                return reads;
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }
}
