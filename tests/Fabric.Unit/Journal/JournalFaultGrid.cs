using Fabric.Core;
using Fabric.Journal;
using Xunit;

namespace Fabric.Unit.Journal;

/// <summary>How a store fails a call.</summary>
public enum StoreFault
{
    /// <summary>The call reaches nobody and nothing comes back.</summary>
    NoAnswer,

    /// <summary>The call fails before the store has done anything.</summary>
    ErrorBefore,

    /// <summary>The store has done and kept it; the answer is lost.</summary>
    ErrorAfterCommit,

    Delay,
}

public enum StoreCall
{
    Load,
    Append,
    Snapshot,
    Lease,
}

/// <summary>
/// Each call with each fault: the caller hears "store-failed, outcome unknown" or, after a delay, the truth; what is read afterwards is the truth, and from
/// there the same opened store works on. Proven by reading through a second opening that no fault touches.
/// </summary>
public abstract class JournalFaultGrid : IAsyncLifetime
{
    protected static readonly CancellationToken None = CancellationToken.None;
    private static readonly ShardId Shard = new(3);
    private static readonly StreamId Stream = new("migration/1");
    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    private IJournal? _faulty;
    private IJournal? _whole;

    public static TheoryData<StoreCall, StoreFault> Grid
    {
        get
        {
            var grid = new TheoryData<StoreCall, StoreFault>();
            foreach (var call in Enum.GetValues<StoreCall>())
            {
                foreach (var fault in Enum.GetValues<StoreFault>())
                    grid.Add(call, fault);
            }

            return grid;
        }
    }

    /// <summary>Two openings of one store; <see cref="Arm"/> reaches the first only.</summary>
    protected abstract Task<(IJournal Faulty, IJournal Whole)> OpenAsync();

    /// <summary>The next call fails so.</summary>
    protected abstract void Arm(StoreCall call, StoreFault fault);

    /// <summary>The armed call will have to give up: moves the clock where it is the test's.</summary>
    protected abstract void PassDeadline();

    protected abstract void Heal();

    protected abstract Task RemoveAsync();

    public async Task InitializeAsync() => (_faulty, _whole) = await OpenAsync();

    public async Task DisposeAsync()
    {
        if (_faulty is not null)
        {
            Heal();
            await _faulty.DisposeAsync();
            await _whole!.DisposeAsync();
        }

        await RemoveAsync();
    }

    [SkippableTheory]
    [MemberData(nameof(Grid))]
    public async Task A_failing_store_is_told_as_unknown_and_reading_again_gives_the_truth(StoreCall call, StoreFault fault)
    {
        IJournal faulty = _faulty!, whole = _whole!;
        var (lease, _) = await faulty.AcquireAsync(Shard, "alpha", Minute, Epoch.None, None);
        Assert.Equal(JournalRefusal.None, await faulty.AppendAsync(lease!, Stream, 0, [Event(1), Event(2)], None));
        await faulty.SaveSnapshotAsync(lease!, Stream, 1, [1], None);
        await faulty.ReadAsync(Stream, 0, 10, None);

        Arm(call, fault);
        Task asked = AskAsync(faulty, call, lease!);
        if (fault == StoreFault.NoAnswer)
            PassDeadline();
        if (fault == StoreFault.Delay)
        {
            await asked.WaitAsync(Minute);
        }
        else
        {
            var error = (await Assert.ThrowsAsync<FabricException>(() => asked.WaitAsync(Minute))).Error;
            Assert.Equal(ErrorCodes.StoreFailed, error.Code);
            Assert.Contains("outcome is unknown", error.Message, StringComparison.Ordinal);
        }

        Heal();
        bool done = await IsDoneAsync(whole, call);
        if (call != StoreCall.Load && fault != StoreFault.NoAnswer)
            Assert.Equal(fault != StoreFault.ErrorBefore, done);

        // The same opened store goes on from what is true.
        var next = await UntilConnectedAsync(() => faulty.AcquireAsync(Shard, "alpha", Minute, Epoch.None, None));
        done = await IsDoneAsync(whole, call);
        Assert.Equal(done, await UntilConnectedAsync(() => IsDoneAsync(faulty, call)));
        long last = (await UntilConnectedAsync(() => faulty.ReadAsync(Stream, 0, 10, None))).Count;
        Assert.Equal(call == StoreCall.Append && done ? 3 : 2, last);
        Assert.Equal(JournalRefusal.None, await UntilConnectedAsync(() => faulty.AppendAsync(next.Lease!, Stream, last, [Event(9)], None)));
        Assert.Equal(Enumerable.Range(1, (int)last + 1).Select(i => (long)i), (await whole.ReadShardAsync(Shard, 0, 10, None)).Select(r => r.Position));
    }

    private static NewEvent Event(int number) => new("counted", 1, System.Text.Encoding.UTF8.GetBytes($$"""{"number":{{number}}}"""));

    private static async Task AskAsync(IJournal journal, StoreCall call, ShardLease lease)
    {
        switch (call)
        {
            case StoreCall.Load:
                Assert.Equal(2, (await journal.ReadAsync(Stream, 0, 10, None)).Count);
                break;
            case StoreCall.Append:
                Assert.Equal(JournalRefusal.None, await journal.AppendAsync(lease, Stream, 2, [Event(3)], None));
                break;
            case StoreCall.Snapshot:
                await journal.SaveSnapshotAsync(lease, Stream, 2, [2], None);
                break;
            default:
                Assert.Equal(JournalRefusal.None, (await journal.AcquireAsync(new ShardId(5), "alpha", Minute, Epoch.None, None)).Refusal);
                break;
        }
    }

    private static async Task<bool> IsDoneAsync(IJournal journal, StoreCall call) => call switch
    {
        StoreCall.Load => true,
        StoreCall.Append => (await journal.ReadAsync(Stream, 0, 10, None)).Count == 3,
        StoreCall.Snapshot => (await journal.LoadSnapshotAsync(Stream, None))!.Value.Sequence == 2,
        _ => (await journal.AcquireAsync(new ShardId(5), "beta", Minute, Epoch.None, None)).Refusal == JournalRefusal.HeldByAnother,
    };

    /// <summary>Connections that the fault has broken may each cost one more call.</summary>
    private static async Task<T> UntilConnectedAsync<T>(Func<Task<T>> call)
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                return await call();
            }
            catch (FabricException again) when (again.Error.Code == ErrorCodes.StoreFailed && attempt < 3)
            {
                // The next one connects again.
            }
        }
    }
}
